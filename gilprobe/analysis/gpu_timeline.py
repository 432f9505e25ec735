"""Intervals on one GPU from several processes, as arrays: who had it, for how long. Times in ns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gilprobe.recording.cuda_schema import GpuMarkKind

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Intervals:
    """By start. owner: any numbers, one for each context of each process."""

    start: Times
    end: Times
    owner: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.start)


@dataclass(frozen=True, slots=True)
class Changes:
    """at, gap: of each time that another owner came next. gap is 0 where the earlier one's work had not ended."""

    at: Times
    gap: Times


def intervals_of(parts: Sequence[tuple[Any, Any, int]]) -> Intervals:
    """parts: (starts, ends, owner). What ends before it starts is left out."""
    if not parts:
        none: Times = np.empty(0, np.int64)
        return Intervals(none, none, np.empty(0, np.int32))
    start = np.concatenate([np.asarray(part[0]).astype(np.int64) for part in parts])
    end = np.concatenate([np.asarray(part[1]).astype(np.int64) for part in parts])
    owner = np.concatenate([np.full(len(part[0]), part[2], np.int32) for part in parts])
    whole = (end >= start) & (start > 0)
    order = np.argsort(start[whole], kind="stable")
    return Intervals(start[whole][order], end[whole][order], owner[whole][order])


def changes_of(intervals: Intervals) -> Changes:
    """In the order of starts: where the owner differs from the one before."""
    if len(intervals) < 2:
        none: Times = np.empty(0, np.int64)
        return Changes(none, none)
    ended = np.maximum.accumulate(intervals.end)[:-1]
    other = np.flatnonzero(intervals.owner[1:] != intervals.owner[:-1])
    at = intervals.start[1:][other]
    return Changes(at, np.maximum(at - ended[other], 0))


def union_of(start: Times, end: Times) -> tuple[Times, Times]:
    """The intervals (by start) without their overlaps, as (starts, ends)."""
    if not len(start):
        return start, end
    reached = np.maximum.accumulate(end)
    first = np.concatenate([[True], start[1:] > reached[:-1]])
    last = np.concatenate([first[1:], [True]])
    return start[first], reached[last]


def residency_of(marks: Any) -> tuple[dict[int, tuple[Times, Times]], int]:
    """By context: from each switch-start mark to the next switch-end mark (starts, ends); and how many have no partner.

    That START and END bound the time a context is on the GPU is what the known-answer test of reports/gpu-nvimagecodec
    checks; CUPTI's documentation does not say it.
    """
    gpu = marks[(marks["kind"] == GpuMarkKind.SWITCH_START) | (marks["kind"] == GpuMarkKind.SWITCH_END)]
    found: dict[int, tuple[Times, Times]] = {}
    alone = 0
    for context in np.unique(gpu["context"]):
        own = gpu[gpu["context"] == context]
        own = own[np.argsort(own["time_ns"], kind="stable")]
        begins = own["kind"] == GpuMarkKind.SWITCH_START
        paired = np.flatnonzero(begins[:-1] & ~begins[1:])
        time_ns = own["time_ns"].astype(np.int64)
        found[int(context)] = (time_ns[paired], time_ns[paired + 1])
        alone += len(own) - 2 * len(paired)
    return found, alone


def clock_bounds(work: Any, marks: Any) -> tuple[int | None, int | None]:
    """Between what bounds (low, high) GPU times of one process lie off its host clock; None where nothing bounds them.

    A kernel starts after its launch was called, so its shown start less the launch is at least the error; and it ends
    before cuCtxSynchronize returned in the thread that launched it.
    """
    high = _least_distance(work, marks, GpuMarkKind.HOST_LAUNCH, "start_ns", 1)
    low = _least_distance(work, marks, GpuMarkKind.HOST_SYNCHRONIZED, "end_ns", -1)
    return (None if low is None else -low), high


def _least_distance(work: Any, marks: Any, kind: GpuMarkKind, column: str, sign: int) -> int | None:
    chosen = marks[marks["kind"] == kind]
    if not len(chosen) or not len(work):
        return None
    order = np.argsort(work["correlation"], kind="stable")
    known = work["correlation"][order]
    place = np.minimum(np.searchsorted(known, chosen["correlation"]), len(known) - 1)
    same = known[place] == chosen["correlation"]
    if not same.any():
        return None
    on_gpu = work[column][order][place[same]].astype(np.int64)
    return int((sign * (on_gpu - chosen["time_ns"][same].astype(np.int64))).min())


def idle_within(start: Times, end: Times, busy_start: Times, busy_end: Times) -> Times:
    """How much of each interval [start, end] lies outside the busy ones, which do not overlap and are by start."""
    if not len(busy_start):
        return end - start
    durations = busy_end - busy_start
    before = np.concatenate([[0], np.cumsum(durations)])

    def busy_until(time: Times) -> Times:
        index = np.searchsorted(busy_start, time, side="right")
        last = np.maximum(index - 1, 0)
        over = np.where(index > 0, np.maximum(busy_end[last] - time, 0), 0)
        total: Times = before[index] - over
        return total

    return (end - start) - (busy_until(end) - busy_until(start))
