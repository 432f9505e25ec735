"""How often GPUs changed hands, and for how long they lay still between two owners."""

from __future__ import annotations

from typing import Any

import numpy as np

from gilprobe.analysis.gpu_timeline import Intervals, changes_of, union_of


def ownership(owned: Intervals, work: Intervals, devices: dict[int, int]) -> dict[str, Any]:
    """owned: when which context had the GPU, or where that was not recorded, its work. devices: of each owner."""
    changed, gaps = 0, [np.empty(0, np.int64)]
    span_ns = busy_ns = 0
    for device in sorted(set(devices.values())):
        owners = np.array([owner for owner, of in devices.items() if of == device], np.int32)
        part, busy = _of(owned, owners), _of(work, owners)
        changes = changes_of(part)
        changed += len(changes.at)
        gaps.append(changes.gap[changes.gap > 0])
        every = [array for array in (part, busy) if len(array)]
        if every:
            span_ns += int(max(array.end.max() for array in every) - min(array.start.min() for array in every))
        start, end = union_of(busy.start, busy.end)
        busy_ns += int((end - start).sum())
    gap = np.concatenate(gaps)
    span_s = span_ns / 1e9
    return {
        "gpu_s": span_s,
        "busy_s": busy_ns / 1e9,
        "changes": changed,
        "changes_per_s": changed / span_s if span_s else 0.0,
        "gaps": {
            "count": len(gap),
            "total_s": float(gap.sum()) / 1e9,
            "share": float(gap.sum()) / span_ns if span_ns else 0.0,
            "median_s": float(np.median(gap)) / 1e9 if len(gap) else 0.0,
            "p95_s": float(np.percentile(gap, 95)) / 1e9 if len(gap) else 0.0,
        },
    }


def _of(intervals: Intervals, owners: Any) -> Intervals:
    chosen = np.isin(intervals.owner, owners)
    return Intervals(intervals.start[chosen], intervals.end[chosen], intervals.owner[chosen])
