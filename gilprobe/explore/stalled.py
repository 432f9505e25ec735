"""Whether a thread that passes no change point is stuck in a call that nobody controls.

Told by looking again and again, never by the clock alone: a process that was stopped, or that other work keeps from its
processors, finds much time gone in which its threads could do nothing.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from gilprobe.explore.real import raw_monotonic

LOOK_S = 0.05
STALL_S = 1.0  # in one and the same sleep
NAPS_S = 1.5  # asleep at most looks, and awake between them: a call that polls
ONE_SLEEP, NAPS = 15, 25  # looks at least, which no stop of the process makes up for


class Stillness:
    """One thread since its last change point. busy_s: of its own processor time, after which it computes for ever."""

    def __init__(self, native_id: int, busy_s: float) -> None:
        self._folder = Path(f"/proc/self/task/{native_id}")
        self._clock = _clock_of(native_id)
        self._busy_s = busy_s
        self._since = raw_monotonic()
        self._cpu_s = 0.0
        self._cpu_s = self._processor_s()
        self._turns = ""
        self._same_sleep = self._asleep = self._looks = 0
        self.asleep = False

    def look(self) -> bool:
        """Whether it is stuck by now; `asleep` says how."""
        asleep, turns = self._state()
        self._looks += 1
        self._asleep += asleep
        self._same_sleep = self._same_sleep + 1 if asleep and turns == self._turns else 0
        self._turns = turns
        waited_s = raw_monotonic() - self._since
        self.asleep = (self._same_sleep >= ONE_SLEEP and waited_s > STALL_S) or (
            self._looks >= NAPS and waited_s > NAPS_S and self._asleep > 0.8 * self._looks
        )
        return self.asleep or self._processor_s() - self._cpu_s > self._busy_s

    def _state(self) -> tuple[bool, str]:
        """Whether the kernel has it sleeping (or it is gone), and how often it had a processor (proc_pid_stat(5))."""
        asleep, turns = True, ""
        with contextlib.suppress(OSError):
            asleep = (self._folder / "stat").read_text().rpartition(")")[2].split()[0] in "SD"
            turns = (self._folder / "schedstat").read_text().split()[2]  # a kernel may be built without it
        return asleep, turns

    def _processor_s(self) -> float:
        with contextlib.suppress(OSError):
            return time.clock_gettime(self._clock)
        return self._cpu_s


def _clock_of(native_id: int) -> int:
    """Of its processor time: ~tid << 3, CPUCLOCK_PERTHREAD_MASK and CPUCLOCK_SCHED (Linux, posix-timers.h)."""
    return ~native_id << 3 | 6
