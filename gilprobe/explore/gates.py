"""What the baton passes through: a gate is opened by one thread and lets one other through, once.

Best through the recorder's library (native/baton.c): one call gives the baton away and waits, without the GIL. Where
that library is not built: a raw lock with the GIL; without it a lock gives the processor away up to 40 times before it
sleeps (CPython Python/lock.c, MAX_SPIN_COUNT; 42 us a pass measured on 3.13t), an event counter sleeps at once (3 us).
"""

from __future__ import annotations

import ctypes
import os
import select
import sysconfig
from typing import Any, Final, Protocol

from gilprobe.explore.real import raw_lock
from gilprobe.native_library import LIBRARY

_ONE: Final = (1).to_bytes(8, "little")  # what an event counter is increased by; see eventfd(2)
# Taken before anything is patched. os.read and not os.eventfd_read: it goes on after a signal.
_read, _write, _poll = os.read, os.write, select.poll


class Gate(Protocol):
    """Closed at first."""

    def open(self) -> None: ...

    def wait(self) -> Any: ...

    def wait_for(self, seconds: float) -> bool: ...

    def pass_to(self, other: Any) -> Any:
        """Opens the other one, of the same class, and waits at this one."""

    def pass_for(self, other: Any, seconds: float) -> bool:
        """The same; False where this one stays closed for so long."""


class BatonGate:
    """A word that the library waits on."""

    __slots__ = ("_word", "address")

    def __init__(self) -> None:
        self._word = ctypes.c_uint32(0)
        self.address = ctypes.addressof(self._word)

    def open(self) -> None:
        _baton_open(self.address)

    def wait(self) -> None:
        _baton_wait(self.address, -1)

    def wait_for(self, seconds: float) -> bool:
        return bool(_baton_wait(self.address, int(seconds * 1e9)))

    def pass_to(self, other: BatonGate) -> None:
        _baton_pass(other.address, self.address, -1)

    def pass_for(self, other: BatonGate, seconds: float) -> bool:
        return bool(_baton_pass(other.address, self.address, int(seconds * 1e9)))


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

    def pass_to(self, other: LockGate) -> None:
        other.open()
        self.wait()

    def pass_for(self, other: LockGate, seconds: float) -> bool:
        other.open()
        return self.wait_for(seconds)


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

    def pass_to(self, other: CounterGate) -> None:
        other.open()
        self.wait()

    def pass_for(self, other: CounterGate, seconds: float) -> bool:
        other.open()
        return self.wait_for(seconds)

    def __del__(self) -> None:
        os.close(self._fd)


def _choose() -> type[BatonGate] | type[LockGate] | type[CounterGate]:
    global _baton_open, _baton_wait, _baton_pass
    try:
        library = ctypes.CDLL(str(LIBRARY))
        _baton_open, _baton_wait, _baton_pass = (
            library.gilprobe_baton_open, library.gilprobe_baton_wait, library.gilprobe_baton_pass,
        )  # fmt: skip
    except (OSError, AttributeError):
        # By the build: its locks spin also while the GIL is on there.
        free_threaded = sysconfig.get_config_var("Py_GIL_DISABLED")
        return CounterGate if free_threaded and hasattr(os, "eventfd") else LockGate
    _baton_open.argtypes = (ctypes.c_void_p,)
    _baton_wait.argtypes = (ctypes.c_void_p, ctypes.c_int64)
    _baton_pass.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    _baton_open.restype = None
    return BatonGate


_baton_open: Any
_baton_wait: Any
_baton_pass: Any
make_gate: Final = _choose()
