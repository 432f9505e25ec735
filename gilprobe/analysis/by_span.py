"""The Profile's rows once more for each span name: what lay inside it, inner spans included."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from gilprobe.analysis.contention import ClassifiedWait, wait_rows
from gilprobe.analysis.cpu_stacks import cpu_stacks_of
from gilprobe.analysis.gpu_timeline import union_of
from gilprobe.analysis.numbering import places_of
from gilprobe.model import Span, SpanPart, SpanWindows, Thread
from gilprobe.recording import Recording

MOST_NAMES = 30


def by_span(
    recordings: Sequence[Recording], waits: Sequence[ClassifiedWait], spans: Sequence[Span], start_ns: int
) -> dict[str, SpanPart]:
    """For the MOST_NAMES names with most wall time. spans: as spans_of made them."""
    wall_s: dict[str, float] = {}
    for span in spans:
        wall_s[span.name] = wall_s.get(span.name, 0.0) + span.wall_s
    within = [_names_around(recording) for recording in recordings]
    parts = {}
    for name in sorted(wall_s, key=lambda name: -wall_s[name])[:MOST_NAMES]:
        chosen = [frozenset(span for span, names in each.items() if name in names) for each in within]
        of_recording = {id(recording): ids for recording, ids in zip(recordings, chosen, strict=True)}
        parts[name] = SpanPart(
            threads=tuple(_thread(span) for span in spans if span.name == name),
            waits=wait_rows([wait for wait in waits if wait.span_id in of_recording[id(wait.recording)]]),
            cpu_stacks=cpu_stacks_of(recordings, chosen),
            windows=tuple(_windows(recordings, chosen, start_ns)),
        )
    return parts


def _names_around(recording: Recording) -> dict[int, frozenset[str]]:
    """Span id -> its own name and those of the spans around it. An id that is no older span's is damage."""
    names: dict[int, frozenset[str]] = {}
    for number, span in sorted(recording.spans.items()):
        names[number] = names.get(span["parent_span_id"], frozenset()) | {span.name}
    return names


def _thread(span: Span) -> Thread:
    """What a thread did inside the span; the GIL's holds are not told apart by span."""
    return Thread(
        name=span.thread,
        tid=span.tid,
        pid=span.pid,
        wall_s=span.wall_s,
        cpu_s=span.cpu_s,
        runnable_s=span.runnable_s,
        wait_s=span.wait_s,
        idle_s=span.idle_s,
        sleep_io_s=span.sleep_io_s,
        gil_held_s=0.0,
        unaccounted_s=0.0,
        atomic_stall_s=span.atomic_stall_s,
        spin_s=span.spin_s,
        wake_delay_s=span.wake_delay_s,
        start_s=span.first_s,
    )


def _windows(recordings: Sequence[Recording], chosen: Sequence[frozenset[int]], start_ns: int) -> Iterator[SpanWindows]:
    """Of each thread that had one, where single spans were kept (--events)."""
    for recording, ids, places in zip(recordings, chosen, places_of(recordings), strict=True):
        events = [part[np.isin(part["span_id"], list(ids))] for part in recording.span_events]
        own = np.concatenate(events) if events else np.empty(0, [("thread", "u4")])
        for number in np.unique(own["thread"]).tolist():
            if number in places:
                mine = np.sort(own[own["thread"] == number], order="start_ns")
                start = mine["start_ns"].astype(np.int64) - start_ns
                begins, ends = union_of(start, start + mine["duration_ns"].astype(np.int64))
                yield SpanWindows(places[number], array("q", begins.tolist()), array("q", ends.tolist()))
