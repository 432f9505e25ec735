"""What happened when: samples, intervals, and what lay inside spans."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from gilprobe.model.threads import Thread
from gilprobe.model.waits import Wait
from gilprobe.model.words import Frame


@dataclass(frozen=True, slots=True)
class SampledStack:
    """Samples of one thread at one Python stack. thread: index into Profile.threads. state: `held` (the GIL),
    `running`, and where the sampler sees them too `waiting` for another thread and `idle`."""

    thread: int
    stack: tuple[Frame, ...]
    count: int
    seconds: float
    state: str = "running"


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Every single wait, recorded with --events: equally long columns, by start. Times in ns since the recording began.

    thread, releaser: index into Profile.threads, releaser -1 where it is not known. wait: index into Profile.waits, -1
    for sleep and I/O. wake_ns and spin_ns lie within duration_ns. release: index into the wait's `releasers`, whose
    stack is the one that ended it, -1 where it is not known.
    """

    thread: array[int]
    wait: array[int]
    releaser: array[int]
    start_ns: array[int]
    duration_ns: array[int]
    wake_ns: array[int]
    spin_ns: array[int]
    release: array[int]

    def __len__(self) -> int:
        return len(self.start_ns)


@dataclass(frozen=True, slots=True, eq=False)
class Overview:
    """As much of the timeline as a page can hold: the longest waits one by one, of the shorter ones those of one thread
    and one cause that start within one bin of time together.

    count: how many waits an entry of `timeline` stands for; where more than one, its start is the first one's, its
    other times are sums. A wait shorter than `whole_from_ns` may be within such an entry.
    """

    timeline: Timeline
    count: array[int]
    whole_from_ns: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Collections:
    """Samples of CPU time that fell in a garbage collection: equally long columns. thread: index into Profile.threads.
    time_ns: since the recording began."""

    thread: array[int]
    time_ns: array[int]

    def __len__(self) -> int:
        return len(self.time_ns)


@dataclass(frozen=True, slots=True, eq=False)
class GpuLane:
    """What one context of one process had of its GPU: intervals without overlaps, by start, in ns since the recording
    began. what: `kernel`, `copy` (and set), `resident` (between the GPU's own context switches).

    count: how many there were; gaps shorter than closed_ns are not shown (0: all are).
    """

    device: int
    pid: int
    context: int
    what: str
    start_ns: array[int]
    end_ns: array[int]
    count: int
    busy_s: float
    closed_ns: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class SpanWindows:
    """When one thread was inside a span: without overlaps, by start, in ns since the recording began.
    thread: index into Profile.threads."""

    thread: int
    start_ns: array[int]
    end_ns: array[int]


@dataclass(frozen=True, slots=True)
class SpanPart:
    """What lay inside all spans of one name. threads: their lives inside it. windows: only with --events."""

    threads: tuple[Thread, ...]
    waits: tuple[Wait, ...]
    cpu_stacks: tuple[SampledStack, ...]
    windows: tuple[SpanWindows, ...] = ()
