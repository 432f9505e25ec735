"""Was a signal sent to gilprobe alone, or to its whole process group? A process of it that only listens tells."""

from __future__ import annotations

import os
import select
import signal
import struct
import time
from pathlib import Path

PATIENCE_S = 0.2  # the kernel signals a group's members one after the other: the witness may be last
STALE_S = 1.0  # equal signals that came together are merged, not always on both sides
ORPHANED_S = 1.0
NOTE = struct.Struct("<Bd")


class Witness:
    """Terminal keys, `kill -TERM -PGID` and timeout(1) signal the script too: it must not get a second one from us."""

    def __init__(self) -> None:
        self._notes: list[tuple[int, float]] = []
        self._reader, writer = os.pipe()
        parent = os.getpid()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._pid: int | None = os.fork()
            if self._pid == 0:
                _listen(writer, parent)
        except OSError:
            self._pid = None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(writer)

    def saw(self, number: int) -> bool:
        """Whether the group got this signal, just now. Without a witness only Ctrl-C is taken for the group's."""
        if self._pid is None:
            return number == signal.SIGINT
        end = time.monotonic() + PATIENCE_S
        while True:
            now = time.monotonic()
            self._notes = [note for note in self._notes if now - note[1] < STALE_S]
            for note in self._notes:
                if note[0] == number:
                    self._notes.remove(note)
                    return True
            if now >= end or not select.select([self._reader], [], [], end - now)[0]:
                return False
            packed = os.read(self._reader, NOTE.size)
            if len(packed) < NOTE.size:
                return False
            self._notes.append(NOTE.unpack(packed))

    def close(self) -> None:
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._reader)


def _listen(writer: int, parent: int) -> None:
    """Never returns. Holds none of the script's streams open: a reader of its output must see the end."""
    try:
        for fd in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
            if fd != writer:
                os.closerange(fd, fd + 1)  # one may be gone already: the list was read through it
        while os.getppid() == parent:
            caught = signal.sigtimedwait(signal.valid_signals(), ORPHANED_S)
            if caught is not None:
                os.write(writer, NOTE.pack(caught.si_signo, time.monotonic()))
    finally:
        os._exit(0)
