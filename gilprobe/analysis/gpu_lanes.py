"""What each CUDA context did on its GPU and when, for the timeline. Times as CUPTI interpolated them onto our clock."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gilprobe.analysis.gpu_timeline import Times, residency_of, union_of
from gilprobe.model import GpuLane
from gilprobe.recording import Recording
from gilprobe.recording.cuda_schema import GpuWorkKind

MOST_INTERVALS = 20_000  # a lane; beyond it gaps that a page could hardly show are closed
MOST_LANES = 48


def gpu_lanes_of(recordings: Sequence[Recording], start_ns: int) -> tuple[GpuLane, ...]:
    """Up to three a context: resident (where the GPU's own switches were recorded), kernels, copies."""
    lanes = [lane for recording in recordings for lane in _of_process(recording, start_ns)]
    return tuple(sorted(lanes, key=lambda lane: (lane.device, lane.pid, lane.context))[:MOST_LANES])


def _of_process(recording: Recording, start_ns: int) -> Iterator[GpuLane]:
    if not recording.cuda.states:
        return
    work, (resident, _) = recording.cuda.all_work(), residency_of(recording.cuda.all_marks())
    pid = recording.header["pid"]
    devices = {event["context"]: event["device"] for event in recording.cuda.contexts}
    devices |= dict(zip(work["context"].tolist(), work["device"].tolist(), strict=True))
    for context in sorted(devices):
        own = work[work["context"] == context]
        kernels = own["kind"] == GpuWorkKind.KERNEL
        if context in resident:
            begin, end = resident[context]
            yield _lane((devices[context], pid, context), "resident", begin, end, start_ns)
        for what, chosen in (("kernel", own[kernels]), ("copy", own[~kernels])):
            if len(chosen):
                order = np.argsort(chosen["start_ns"], kind="stable")
                begin, end = (chosen[name][order].astype(np.int64) for name in ("start_ns", "end_ns"))
                yield _lane((devices[context], pid, context), what, begin, end, start_ns)


def _lane(where: tuple[int, int, int], what: str, start: Any, end: Any, start_ns: int) -> GpuLane:
    count, closed_ns = len(start), 0
    start, end = union_of(start, end)
    busy_ns = int(np.maximum(end - start, 0).sum())
    if len(start) > MOST_INTERVALS:
        gaps = start[1:] - end[:-1]
        closed_ns = int(np.partition(gaps, len(gaps) - MOST_INTERVALS)[len(gaps) - MOST_INTERVALS])
        start, end = _closed(start, end, closed_ns)
    begins, ends = (array("q", (times - start_ns).tolist()) for times in (start, end))
    return GpuLane(*where, what, begins, ends, count=count, busy_s=busy_ns / 1e9, closed_ns=closed_ns)


def _closed(start: Times, end: Times, least_ns: int) -> tuple[Times, Times]:
    """Without the gaps shorter than least_ns."""
    wide = np.flatnonzero(start[1:] - end[:-1] >= least_ns)
    return np.concatenate([start[:1], start[wide + 1]]), np.concatenate([end[wide], end[-1:]])
