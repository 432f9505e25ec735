"""Spans that the program marked itself: where the time inside them went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gilprobe.analysis.contention import ClassifiedWait, thread_name
from gilprobe.model import SLEEP_IO, IdleKind, Span, Thread
from gilprobe.recording import RecordedSpan, Recording
from gilprobe.recording.schema import HISTOGRAM_BUCKETS

IDLE = frozenset(IdleKind)


@dataclass(slots=True)
class _Row:
    recording: Recording
    thread: int
    name: str
    inside: tuple[str, ...]
    count: int = 0
    wall_ns: int = 0
    max_ns: int = 0
    cpu_ns: int = 0
    run_delay_ns: int = 0
    faults: int = 0
    first_ns: int = 0
    last_ns: int = 0
    open: bool = False
    spin_s: float = 0.0
    wake_s: float = 0.0
    samples: int = 0
    stalled_samples: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    histogram: list[int] = field(default_factory=lambda: [0] * HISTOGRAM_BUCKETS)


def spans_of(
    recordings: Sequence[Recording],
    waits: Sequence[ClassifiedWait],
    threads: Sequence[Thread],
    samples: Mapping[tuple[int, int], tuple[int, int]],
    start_ns: int,
) -> tuple[Span, ...]:
    """One row for each name in each thread, by falling wall time.

    samples: (pid, span id) -> CPU samples on shared lines, all CPU samples; inner spans not included.
    """
    by_recording: dict[int, list[ClassifiedWait]] = defaultdict(list)
    for wait in waits:
        by_recording[id(wait.recording)].append(wait)
    found: list[Span] = []
    for recording in recordings:
        if recording.spans:
            rows = _Rows(recording)
            rows.add_waits(by_recording[id(recording)])
            rows.add_open_waits(threads)
            rows.add_samples(samples)
            found += (_span(row, start_ns) for row in rows.rows.values())
    return tuple(sorted(found, key=lambda span: -span.wall_s))


class _Rows:
    """Of one process. A span's own record holds its inner spans' time; waits and samples name the innermost one."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.rows: dict[tuple[int, str], _Row] = {}
        for span in recording.spans.values():
            around = [outer.name for outer in self._around(span)]
            row = self.rows.setdefault(
                (span["thread"], span.name),
                _Row(recording, span["thread"], span.name, tuple(reversed(around))),
            )
            # Within one of its own name (a recursion) its time is counted already.
            _add_record(row, span, recording, nested=span.name in around)

    def _around(self, span: RecordedSpan) -> Iterator[RecordedSpan]:
        """Innermost first. An id that is no older span's is damage."""
        while (outer := self.recording.spans.get(span["parent_span_id"])) and outer["span_id"] < span["span_id"]:
            span = outer
            yield span

    def _rows_of(self, span_id: int) -> list[_Row]:
        span = self.recording.spans.get(span_id)
        if span is None:
            return []
        names = {span.name, *(outer.name for outer in self._around(span))}
        return [self.rows[span["thread"], name] for name in names if (span["thread"], name) in self.rows]

    def add_waits(self, waits: Sequence[ClassifiedWait]) -> None:
        for wait in waits:
            for row in self._rows_of(wait.span_id):
                row.spin_s += wait.spin_s
                row.wake_s += wait.wake_s
                row.seconds[wait.classified.kind] += wait.blocked_s

    def add_open_waits(self, threads: Sequence[Thread]) -> None:
        """A wait that never ended, in spans that never ended."""
        waiting = {thread.tid: thread.open_wait for thread in threads if thread.pid == self.recording.header["pid"]}
        for row in self.rows.values():
            recorded = self.recording.threads.get(row.thread)
            wait = waiting.get(recorded["tid"]) if recorded and row.open else None
            if wait:
                row.seconds[wait.kind] += wait.waited_s

    def add_samples(self, samples: Mapping[tuple[int, int], tuple[int, int]]) -> None:
        for (pid, span_id), (stalled, count) in samples.items():
            if pid == self.recording.header["pid"]:
                for row in self._rows_of(span_id):
                    row.samples += count
                    row.stalled_samples += stalled


def _add_record(row: _Row, span: RecordedSpan, recording: Recording, *, nested: bool) -> None:
    row.count += span["count"]
    row.max_ns = max(row.max_ns, span["max_ns"])
    row.histogram = [a + b for a, b in zip(row.histogram, span.histogram, strict=True)]
    row.first_ns = min(row.first_ns or span["first_ns"], span["first_ns"])
    row.last_ns = max(row.last_ns, span["last_ns"])
    if nested:
        return
    row.wall_ns += span["total_ns"]
    row.cpu_ns += span["cpu_ns"]
    row.run_delay_ns += span["run_delay_ns"]
    row.faults += span["faults"]
    if not span["open_start_ns"]:
        return
    # It was open when the recording ended: the thread's totals stand in for a reading at its end.
    thread = recording.threads.get(span["thread"])
    end_ns = (thread and thread["end_ns"]) or recording.end_ns
    open_ns = max(0, end_ns - span["open_start_ns"])
    row.open = True
    row.count += 1
    row.wall_ns += open_ns
    row.max_ns = max(row.max_ns, open_ns)
    row.last_ns = max(row.last_ns, end_ns)
    if thread:
        row.cpu_ns += max(0, thread["cpu_ns"] - span["open_cpu_ns"])
        row.run_delay_ns += max(0, thread["run_delay_ns"] - span["open_run_delay_ns"])


def _span(row: _Row, start_ns: int) -> Span:
    idle_s = {kind: value for kind, value in row.seconds.items() if kind in IDLE}
    wait_s = {kind: value for kind, value in row.seconds.items() if kind not in IDLE and kind != SLEEP_IO}
    wall_s, cpu_s = row.wall_ns / 1e9, row.cpu_ns / 1e9
    stall_s = max(0.0, cpu_s - row.spin_s) * row.stalled_samples / row.samples if row.samples else 0.0
    recorded = row.recording.threads.get(row.thread)
    lost = {**wait_s, "atomic-stall": stall_s}
    return Span(
        name=row.name,
        thread=thread_name(row.recording, row.thread),
        tid=recorded["tid"] if recorded else 0,
        pid=row.recording.header["pid"],
        count=row.count,
        wall_s=wall_s,
        max_s=row.max_ns / 1e9,
        cpu_s=cpu_s,
        runnable_s=row.run_delay_ns / 1e9,
        wait_s=wait_s,
        idle_s=idle_s,
        sleep_io_s=row.seconds.get(SLEEP_IO, 0.0),
        spin_s=row.spin_s,
        wake_delay_s=row.wake_s,
        atomic_stall_s=stall_s,
        shares={kind: value / wall_s for kind, value in lost.items() if value > 0 and wall_s > 0},
        histogram=tuple(row.histogram),
        first_s=max(0, row.first_ns - start_ns) / 1e9,
        last_s=max(0, row.last_ns - start_ns) / 1e9,
        faults=row.faults,
        inside=row.inside,
        open=row.open,
    )
