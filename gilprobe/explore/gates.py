"""What the baton passes through: a gate is opened by one thread and lets one other through, once.

With the GIL a raw lock is the cheapest. Without it a lock gives the processor away up to 40 times before it sleeps
(CPython Python/lock.c, MAX_SPIN_COUNT; 42 us a pass measured on 3.13t), an event counter sleeps at once (3 us).
"""

from __future__ import annotations

import os
import select
import sysconfig
from typing import Any, Final, Protocol

from gilprobe.explore.real import raw_lock

_ONE: Final = (1).to_bytes(8, "little")  # what an event counter is increased by; see eventfd(2)
# Taken before anything is patched. os.read and not os.eventfd_read: it goes on after a signal.
_read, _write, _poll = os.read, os.write, select.poll


class Gate(Protocol):
    """Closed at first."""

    def open(self) -> None: ...

    def wait(self) -> Any: ...

    def wait_for(self, seconds: float) -> bool: ...


class LockGate:
    """A raw lock, held while the gate is closed."""

    __slots__ = ("_lock", "open", "wait")

    def __init__(self) -> None:
        self._lock = raw_lock()
        self._lock.acquire()
        self.open = self._lock.release
        self.wait = self._lock.acquire

    def wait_for(self, seconds: float) -> bool:
        return self._lock.acquire(timeout=seconds)


class CounterGate:
    """An event counter of the kernel's."""

    __slots__ = ("_fd", "_poller")

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._poller = _poll()
        self._poller.register(self._fd, select.POLLIN)

    def open(self) -> None:
        _write(self._fd, _ONE)

    def wait(self) -> None:
        _read(self._fd, 8)

    def wait_for(self, seconds: float) -> bool:
        if not self._poller.poll(seconds * 1e3):
            return False
        _read(self._fd, 8)
        return True

    def __del__(self) -> None:
        os.close(self._fd)


# By the build: its locks spin also while the GIL is on there.
make_gate: Final[type[LockGate] | type[CounterGate]] = (
    CounterGate if sysconfig.get_config_var("Py_GIL_DISABLED") and hasattr(os, "eventfd") else LockGate
)
