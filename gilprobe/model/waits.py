"""Waits, and the holds that made others wait."""

from __future__ import annotations

from dataclasses import dataclass, field

from gilprobe.model.words import Evidence, Frame


@dataclass(frozen=True, slots=True)
class OpenWait:
    """A wait that had not ended when the recording did."""

    kind: str
    name: str
    since_s: float
    waited_s: float
    stack: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Releaser:
    stack: tuple[Frame, ...]
    count: int
    total_s: float
    thread: str = ""


@dataclass(frozen=True, slots=True)
class Holder(Releaser):
    """One that held, while others waited, a lock that it took at `stack`: all its holds that ended where those waits
    did (--watchdog)."""

    max_s: float = 0.0
    histogram: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """All holds of Python's locks that were taken at one stack (--watchdog).

    kind: `Lock` or `RLock`. timed: how many of `count` were measured; the others, in a thread that takes locks all the
    time, are taken to be like those between which they fell. at_least: no clock saw the longest, `max_s` is a lower
    bound. released: where the longest ended. open: how many had not ended when the recording did.
    threads: name -> seconds.
    """

    kind: str
    name: str
    count: int
    timed: int
    total_s: float
    max_s: float
    histogram: tuple[int, ...]
    taken: tuple[Frame, ...]
    released: tuple[Frame, ...] = ()
    at_least: bool = False
    open: int = 0
    threads: dict[str, float] = field(default_factory=dict)

    @property
    def evidence(self) -> Evidence:
        return Evidence.MEASURED if self.timed >= self.count else Evidence.ESTIMATED


@dataclass(frozen=True, slots=True)
class Wait:
    """All waits of one kind at one site for one thing; `threads` maps a waiter's name to its seconds."""

    kind: str
    object_type: str
    name: str
    count: int
    total_s: float
    max_s: float
    histogram: tuple[int, ...]
    waiter: tuple[Frame, ...]
    releasers: tuple[Releaser, ...]
    holders: tuple[Holder, ...] = ()
    idle: bool = False
    spin_s: float = 0.0
    wake_delay_s: float = 0.0
    threads: dict[str, float] = field(default_factory=dict)
    pairs: tuple[tuple[str, str, float], ...] = ()  # waiter's name, releaser's name, seconds
    spans: dict[str, float] = field(default_factory=dict)  # name of the innermost span -> seconds

    @property
    def contended_s(self) -> float:
        """Blocked and spinning, without the time when it could have gone on but had no core."""
        return self.total_s - self.wake_delay_s


@dataclass(frozen=True, slots=True)
class NativeFunction:
    """share: of the hold's samples (0-1); 1 for the one that slept or waited."""

    name: str
    library: str
    share: float


@dataclass(frozen=True, slots=True)
class GilHold:
    """One of a thread's longest holds of the GIL. waiters: threads that waited for it at its end.

    stack: where most of its samples fell, or where it slept or waited for most of the hold (blocked_s), or else where
    it gave the GIL up. native: innermost C functions in which its samples fell, or the one that slept or waited.
    """

    thread: str
    tid: int
    pid: int
    start_s: float
    held_s: float
    waiters: int
    stack: tuple[Frame, ...]
    native: tuple[NativeFunction, ...]
    samples: int
    blocked_s: float = 0.0
    open: bool = False  # it went on when the recording ended
