"""A part of the run: what lies outside does not count (a study's start-up, say). Times in ns."""

from __future__ import annotations

from typing import Any

from gilprobe.analysis.gpu_timeline import Times

Window = tuple[int, int]


def window_of(ladder: dict[str, Any]) -> Window | None:
    """cuda.json may name one as `window_ns`: [begin, end] on CLOCK_MONOTONIC."""
    match ladder.get("window_ns"):
        case [int(begin), int(end)] if begin < end:
            return begin, end
    return None


def spans_within(start: Times, end: Times, window: Window | None) -> tuple[Times, Times]:
    """Cut off at the window's ends."""
    if window is None:
        return start, end
    start, end = start.clip(min=window[0]), end.clip(max=window[1])
    return start[start < end], end[start < end]


def work_within(work: Any, window: Window | None) -> Any:
    """Rows of schema.GPU_WORK that touch the window, their times cut off at its ends."""
    if window is None:
        return work
    inside = work[(work["start_ns"] < window[1]) & (work["end_ns"] > window[0])].copy()
    inside["start_ns"] = inside["start_ns"].clip(min=window[0])
    inside["end_ns"] = inside["end_ns"].clip(max=window[1])
    return inside


def samples_within(samples: list[dict[str, Any]], window: Window | None) -> list[dict[str, Any]]:
    """Rows of nvml.jsonl."""
    if window is None:
        return samples
    return [sample for sample in samples if window[0] <= sample.get("time_s", 0) * 1e9 <= window[1]]
