"""WAIT records of all processes as rows of the report: one for each thing waited for at one waiting stack."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np

from gilprobe.analysis.classify import Classified, classify, waits_for_transaction
from gilprobe.analysis.delays import not_blocked_s
from gilprobe.analysis.frames import Site, Stacks, expression_at, subject_of
from gilprobe.model import Frame, Releaser, Wait, WaitKind
from gilprobe.recording import Recording
from gilprobe.recording.schema import HISTOGRAM_BUCKETS, Op, Subject, WaitFlag

MOST_RELEASERS = 20
# Their locks are named by what the program calls them on.
PRIMITIVES = ("/threading.py", "/queue.py", "/multiprocessing/synchronize.py", "loky/backend/synchronize.py")
TRANSACTION = "another connection's SQLite transaction"
MANAGERS_LOCK = "a multiprocessing manager's lock"
SERVES = ("/multiprocessing/managers.py", "Server.serve_client")


@dataclass(frozen=True, slots=True)
class ClassifiedWait:
    """One WAIT record, read. Times in seconds; total_s holds spin_s, wake_s and cpu_s (of the calls)."""

    recording: Recording
    thread: int
    classified: Classified
    op: int
    object_type: str
    name: str
    sites: tuple[Site, ...]
    releaser_sites: tuple[Site, ...]
    releaser_thread: int
    address: int
    count: int
    total_s: float
    max_s: float
    wake_s: float
    spin_s: float
    cpu_s: float
    histogram: tuple[int, ...]
    wait_id: int = 0
    span_id: int = 0

    @property
    def blocked_s(self) -> float:
        return max(0.0, self.total_s - self.spin_s - self.wake_s - self.cpu_s)

    @property
    def releaser(self) -> tuple[Frame, ...]:
        return tuple(site.frame for site in self.releaser_sites)


def classified_waits(recording: Recording) -> Iterator[ClassifiedWait]:
    stacks = Stacks(recording)
    delays_s, cpus_s = not_blocked_s(recording)
    for record, delay_s, cpu_s in zip(recording.waits, delays_s.tolist(), cpus_s.tolist(), strict=True):
        sites = stacks.sites(int(record["stack_id"]))
        op, subject = int(record["op"]), int(record["subject"])
        object_type = recording.types.get(int(record["type_id"]), "")
        address = int(record["address"])
        library = _library_of(recording, stacks, int(record["stack_id"]), op, subject, address)
        callers = [_image_at(recording, caller) for caller in stacks.native(int(record["stack_id"]))[:4]]
        if waits_for_transaction(op, callers):
            library = TRANSACTION
        classified = classify(
            op,
            subject,
            object_type,
            sites,
            in_library=bool(library) and subject in (Subject.HEAP, Subject.UNKNOWN) and op in (Op.SEM, Op.YIELD),
            free_threaded=recording.free_threaded,
            callers=callers,
            timed=bool(int(record["flags"]) & WaitFlag.TIMED),
        )
        several = bool(int(record["flags"]) & WaitFlag.ADDRESSES)
        yield ClassifiedWait(
            recording=recording,
            thread=int(record["thread"]),
            classified=classified,
            op=op,
            object_type=object_type,
            name=name_of(classified, object_type, sites, 0 if several else address, library),
            sites=sites,
            releaser_sites=stacks.sites(int(record["releaser_stack_id"])),
            releaser_thread=int(record["releaser_thread"]),
            address=address,
            count=int(record["count"]),
            total_s=int(record["total_ns"]) / 1e9,
            max_s=int(record["max_ns"]) / 1e9,
            wake_s=delay_s,
            spin_s=int(record["spin_ns"]) / 1e9,
            cpu_s=cpu_s,
            histogram=tuple(record["histogram"].tolist()),
            wait_id=int(record["wait_id"]),
            span_id=int(record["span_id"]),
        )


def name_of(classified: Classified, object_type: str, sites: tuple[Site, ...], address: int, library: str = "") -> str:
    """`self._lock in Cache.get`: the source expression at the waiting instruction; else the type, or the address."""
    if classified.kind in (WaitKind.GIL, WaitKind.STOP_THE_WORLD):
        return "the GIL" if classified.kind == WaitKind.GIL else "the world to start again"
    if classified.kind == WaitKind.NATIVE and library:
        return library if library == TRANSACTION else f"a mutex of {library}"
    site = next((site for site in sites if not site.file.endswith(PRIMITIVES)), None)
    if site and site.file.endswith(SERVES[0]) and site.function == SERVES[1] and classified.kind == WaitKind.LOCK:
        return f"{MANAGERS_LOCK} at {address:#x}" if address else MANAGERS_LOCK
    expression = subject_of(expression_at(site.file, site.position)) if site else ""
    if site and expression:
        return f"{expression} in {site.function}"
    kind = object_type or ("lock" if classified.kind == WaitKind.LOCK else classified.kind)
    return f"{kind} at {address:#x}" if address else kind


def _library_of(recording: Recording, stacks: Stacks, stack_id: int, op: int, subject: int, address: int) -> str:
    """The library whose mutex this is: by where the mutex lies, else by who called."""
    if op == Op.YIELD and subject == Subject.UNKNOWN:
        # _Py_yield <- PyMutex_Lock's slow path <- who locks: a library's own PyMutex, if it is not the interpreter.
        callers = [_image_at(recording, caller) for caller in stacks.native(stack_id)[:3]]
        return callers[2] if len(callers) == 3 and callers[2] != callers[0] else ""
    if subject == Subject.HEAP:
        return _image_at(recording, address)
    if op in (Op.MUTEX, Op.RWLOCK, Op.COND, Op.FUTEX) or (op == Op.SEM and subject == Subject.UNKNOWN):
        native = stacks.native(stack_id)
        return _image_at(recording, native[0]) if native else ""
    return ""


def _image_at(recording: Recording, address: int) -> str:
    for image in recording.images:
        if image.start <= address < image.end:
            return PurePath(image.path).name
    return ""


@dataclass(slots=True)
class _Row:
    count: int = 0
    total_s: float = 0.0
    max_s: float = 0.0
    spin_s: float = 0.0
    wake_s: float = 0.0
    histogram: list[int] = field(default_factory=lambda: [0] * HISTOGRAM_BUCKETS)
    threads: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    pairs: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    releasers: dict[tuple[tuple[Frame, ...], str], list[float]] = field(default_factory=dict)
    spans: dict[str, float] = field(default_factory=lambda: defaultdict(float))


def wait_rows(waits: Iterable[ClassifiedWait]) -> tuple[Wait, ...]:
    """Contention and idling by falling time blocked; sleep and I/O are no one's fault and have no rows."""
    rows: dict[tuple[str, str, str, tuple[Frame, ...]], _Row] = defaultdict(_Row)
    for wait in waits:
        if not (wait.classified.contention or wait.classified.idle):
            continue
        frames = tuple(site.frame for site in wait.sites)
        row = rows[wait.classified.kind, wait.object_type, wait.name, frames]
        row.count += wait.count
        row.total_s += wait.total_s
        row.max_s = max(row.max_s, wait.max_s)
        row.spin_s += wait.spin_s
        row.wake_s += wait.wake_s
        row.histogram = [a + b for a, b in zip(row.histogram, wait.histogram, strict=True)]
        row.threads[thread_name(wait.recording, wait.thread)] += wait.total_s
        if wait.span_id in wait.recording.spans:
            row.spans[wait.recording.spans[wait.span_id].name] += wait.total_s
        if wait.releaser_sites or wait.releaser_thread:
            releaser_name = thread_name(wait.recording, wait.releaser_thread)
            entry = row.releasers.setdefault((wait.releaser, releaser_name), [0, 0.0])
            entry[0] += wait.count
            entry[1] += wait.total_s
            row.pairs[thread_name(wait.recording, wait.thread), releaser_name] += wait.total_s
    built = [
        Wait(
            kind=kind,
            object_type=object_type,
            name=name,
            count=row.count,
            total_s=row.total_s,
            max_s=row.max_s,
            histogram=tuple(row.histogram),
            waiter=frames,
            releasers=_releasers(row),
            idle=Classified(kind).idle,
            spin_s=row.spin_s,
            wake_delay_s=row.wake_s,
            threads=dict(row.threads),
            pairs=tuple((waiter, releaser, total_s) for (waiter, releaser), total_s in row.pairs.items()),
            spans=dict(row.spans),
        )
        for (kind, object_type, name, frames), row in rows.items()
    ]
    return tuple(sorted(built, key=lambda wait: -wait.contended_s))


def _releasers(row: _Row) -> tuple[Releaser, ...]:
    built = [
        Releaser(stack=stack, count=int(count), total_s=total_s, thread=name)
        for (stack, name), (count, total_s) in row.releasers.items()
    ]
    return tuple(sorted(built, key=lambda releaser: -releaser.total_s)[:MOST_RELEASERS])


def thread_name(recording: Recording, thread: int) -> str:
    recorded = recording.threads.get(thread)
    if recorded is None:
        return f"thread {thread}" if thread else ""
    return recorded.name or f"thread {recorded['tid']}"


def percentile_from_histogram(histogram: tuple[int, ...], share: float) -> float:
    """Upper bound in seconds of the bucket that holds the given share (0-1) of the waits."""
    total = np.cumsum(histogram)
    if not total[-1]:
        return 0.0
    return float(2.0 ** (int(np.searchsorted(total, share * total[-1])) + 1) / 1e9)
