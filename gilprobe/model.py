"""The Profile: what analysis makes of a recording and every renderer shows.

All times are seconds, all shares 0-1. `to_dict` gives the JSON report, whose keys are a contract (see the README).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

SCHEMA_VERSION = 1


class WaitKind(StrEnum):
    """Contention: another thread had what this one wanted."""

    GIL = "gil"
    LOCK = "lock"
    OBJECT = "object"
    STOP_THE_WORLD = "stop-the-world"
    IMPORT = "import"
    NATIVE = "native"


class IdleKind(StrEnum):
    """Waiting for work, which is not contention."""

    JOIN = "join"
    CONDITION = "condition"
    QUEUE = "queue"


SLEEP_IO = "sleep-io"


class Evidence(StrEnum):
    MEASURED = "measured"
    ESTIMATED = "estimated"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Frame:
    function: str
    file: str
    line: int


LIBRARY_PARTS = (
    "/threading.py", "/queue.py", "/concurrent/futures/", "/logging/", "/contextlib.py", "<frozen ", "/multiprocessing/"
)  # fmt: skip


def own_frame(stack: Sequence[Frame]) -> Frame | None:
    """The innermost frame that is not the standard library's own waiting code."""
    for frame in stack:
        if not any(part in frame.file for part in LIBRARY_PARTS):
            return frame
    return stack[0] if stack else None


@dataclass(frozen=True, slots=True)
class Thread:
    """One thread's life. wall_s = cpu_s + runnable_s + waits + idle + sleep_io_s, up to unaccounted_s."""

    name: str
    tid: int
    pid: int
    wall_s: float
    cpu_s: float
    runnable_s: float
    wait_s: dict[str, float]
    idle_s: dict[str, float]
    sleep_io_s: float
    gil_held_s: float
    unaccounted_s: float
    atomic_stall_s: float = 0.0
    spin_s: float = 0.0
    wake_delay_s: float = 0.0
    start_s: float = 0.0
    ended: bool = True
    minor_faults: int = 0
    major_faults: int = 0
    voluntary_switches: int = 0
    involuntary_switches: int = 0
    open_wait: OpenWait | None = None
    gc_s: float = 0.0  # within cpu_s: estimated from the samples that fell in a garbage collection
    gc_samples: int = 0

    @property
    def wanted_s(self) -> float:
        """When it had something to do: neither idle nor in sleep or I/O. What shares of the time are of."""
        return self.wall_s - sum(self.idle_s.values()) - self.sleep_io_s


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
class Span:
    """All spans of one name (gilprobe.span) in one thread, inner spans included.

    wall_s = cpu_s + runnable_s + waits + idle + sleep_io_s, up to what the kernel's figures and the hooks' differ in.
    shares: of wall_s (0-1), by kind of wait, and "atomic-stall". inside: names of the spans around it, outermost first.
    """

    name: str
    thread: str
    tid: int
    pid: int
    count: int
    wall_s: float
    max_s: float
    cpu_s: float
    runnable_s: float
    wait_s: dict[str, float]
    idle_s: dict[str, float]
    sleep_io_s: float
    spin_s: float
    wake_delay_s: float
    atomic_stall_s: float
    shares: dict[str, float]
    histogram: tuple[int, ...]
    first_s: float
    last_s: float
    faults: int = 0
    inside: tuple[str, ...] = ()
    open: bool = False

    @property
    def title(self) -> str:
        return self.name if self.count <= 1 else f"{self.name} ({self.count} times, first to last)"


@dataclass(frozen=True, slots=True)
class HotObject:
    object_type: str
    name: str
    share: float
    interval: tuple[float, float]
    threads: tuple[str, ...]
    site: tuple[Frame, ...]
    evidence: str
    address: int = 0
    sites: tuple[tuple[Frame, float], ...] = ()
    kind: str = ""  # what its name is bound to: `module global`, `element of ...`


@dataclass(frozen=True, slots=True)
class Loss:
    """One part of the ideal speed-up that was lost, in thread-seconds and as a share of threads x wall."""

    name: str
    seconds: float
    share: float
    evidence: str


@dataclass(frozen=True, slots=True)
class Accounting:
    ideal: float
    actual: float
    losses: tuple[Loss, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    title: str
    share: float
    evidence: str
    sites: tuple[Frame, ...]
    cure: str
    kind: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FrozenObject:
    """predicted: share of CPU (0-1) that freezing it should free. outcome: `frozen`, or why it was not."""

    object_type: str
    name: str
    address: int
    predicted: float
    outcome: str


@dataclass(frozen=True, slots=True)
class ProofRun:
    """One rerun, in the second before the world was stopped and in the one after: work per second of CPU, in
    Proof.measure's units, and cores used. margin: one standard error of `freed`, were the counted things to happen at
    random. rest: CPU from then to the end of the run."""

    work_before: float
    work_after: float
    cores_before: float
    cores_after: float
    margin: float
    stopped_s: float
    rest_cpu_s: float

    @property
    def freed(self) -> float:
        """Share (0-1) of the CPU a unit of work took that it takes no longer."""
        return 1 - self.work_before / self.work_after if self.work_after > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Proof:
    """What freezing the hottest objects of a rerun changed (--prove), beside what their share of CPU predicted.

    predicted, proven, control: share (0-1) of the CPU a unit of work takes. proven is None where the reruns cannot
    tell; `why` then says why. evidence: of `proven`.
    """

    objects: tuple[FrozenObject, ...]
    measure: str
    predicted: float
    proven: float | None
    control: float | None
    evidence: str
    runs: dict[str, ProofRun] = field(default_factory=dict)
    why: str = ""
    rest_cpu_s: tuple[float, float] | None = None  # to the end of the run: frozen, and as the control has it

    @property
    def speedup(self) -> float | None:
        return None if self.proven is None or self.proven >= 1 else 1 / (1 - self.proven)


@dataclass(frozen=True, slots=True)
class WaterfallStep:
    """One part of what lies between the ideal and the actual speed-up, in units of speed-up (one thread = 1)."""

    name: str
    speedup: float
    evidence: str


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Against a recording of the same program with one worker: ideal - the sum of `steps` = actual.

    ideal: the number of workers. actual: work * the baseline's wall time / this run's, where work is what this run did
    in units of the baseline's. steps: kinds of waits, `spin`, `atomic-stall`, `runnable`, `cpu` (beyond the baseline's
    for the same work), `sleep-io`, `idle` (workers with nothing to do: the serial part), `unaccounted` (always there).
    """

    baseline: str
    ideal: float
    actual: float
    steps: tuple[WaterfallStep, ...]
    work: float = 1.0
    baseline_wall_s: float = 0.0


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


@dataclass(frozen=True, slots=True)
class NotObserved:
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent_pid: int
    python: str
    free_threaded: bool
    gil_enabled: bool | None
    argv: tuple[str, ...]
    wall_s: float
    end: str
    lost_records: int = 0
    python_stacks: bool = True


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


NOT_IN_JSON = ("cpu_stacks", "wall_stacks", "timeline", "overview", "collections", "gpu_lanes", "by_span")


@dataclass(frozen=True, slots=True)
class Profile:
    meta: dict[str, Any]
    processes: tuple[Process, ...]
    threads: tuple[Thread, ...]
    waits: tuple[Wait, ...]
    hot_objects: tuple[HotObject, ...] = ()
    deadlocks: tuple[dict[str, Any], ...] = ()
    stalls: tuple[dict[str, Any], ...] = ()
    spans: tuple[Span, ...] = ()
    loader: dict[str, Any] = field(default_factory=dict)
    lock_order: tuple[dict[str, Any], ...] = ()
    holds: tuple[Hold, ...] = ()  # the longest first
    cuda: dict[str, Any] = field(default_factory=dict)
    accounting: Accounting = Accounting(0.0, 0.0, ())
    findings: tuple[Finding, ...] = ()
    not_observed: tuple[NotObserved, ...] = ()
    waterfall: Waterfall | None = None
    cpu_stacks: tuple[SampledStack, ...] = ()
    wall_stacks: tuple[SampledStack, ...] = ()  # py-spy's, in every state: all of a thread's time since it attached
    timeline: Timeline | None = None
    overview: Overview | None = None
    proof: Proof | None = None
    gil_holds: tuple[GilHold, ...] = ()
    collections: Collections | None = None
    gpu_lanes: tuple[GpuLane, ...] = ()
    by_span: dict[str, SpanPart] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSON report: plain dicts, lists, strings and numbers. Single samples and waits are in other formats."""
        empty: dict[str, Any] = dict.fromkeys(NOT_IN_JSON)
        report = asdict(replace(self, **empty))
        return {"schema": SCHEMA_VERSION, **{key: value for key, value in report.items() if key not in NOT_IN_JSON}}
