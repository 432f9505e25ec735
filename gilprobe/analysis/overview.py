"""A timeline too long for a page, shortened: no thread's time off CPU gets lost, only where short waits part."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

from gilprobe.analysis.timeline import column_view, empty_column
from gilprobe.model import Overview, Timeline

MOST_WHOLE = 400_000
MOST_MERGED = 400_000
MOST_BINS = 1 << 16


def overview_of(timeline: Timeline, threads: int) -> Overview:
    count = len(timeline)
    if count <= MOST_WHOLE + MOST_MERGED:
        return Overview(timeline, empty_column("I", 0))
    durations = column_view(timeline.duration_ns)
    whole_from_ns = int(np.partition(durations, count - MOST_WHOLE)[count - MOST_WHOLE])
    short = np.flatnonzero(durations <= whole_from_ns)  # equally long ones all the same: they may be most
    whole = np.flatnonzero(durations > whole_from_ns)
    groups, order = _groups(timeline, short, threads)
    first = short[order[groups]]
    starts = np.concatenate([column_view(timeline.start_ns)[whole], column_view(timeline.start_ns)[first]])
    by_start = np.argsort(starts, kind="stable")

    def picked(column_name: str) -> NDArray[np.int64]:
        column = column_view(getattr(timeline, column_name))
        return np.concatenate([column[whole], column[first]])[by_start].astype(np.int64)

    def summed(column_name: str) -> NDArray[np.int64]:
        column = column_view(getattr(timeline, column_name))
        sums = np.add.reduceat(column[short[order]].astype(np.int64), groups)
        return np.concatenate([column[whole].astype(np.int64), sums])[by_start]

    sizes = np.diff(np.append(groups, len(short)))
    counts = np.concatenate([np.ones(len(whole), np.int64), sizes])[by_start]
    shortened = Timeline(
        thread=_array("i", picked("thread")),
        wait=_array("i", picked("wait")),
        releaser=_array("i", np.where(counts > 1, -1, picked("releaser"))),
        start_ns=_array("q", starts[by_start]),
        duration_ns=_array("q", summed("duration_ns")),
        wake_ns=_array("q", summed("wake_ns")),
        spin_ns=_array("q", summed("spin_ns")),
        release=_array("b", np.where(counts > 1, -1, picked("release"))),
    )
    return Overview(shortened, _array("I", counts), whole_from_ns)


def _groups(timeline: Timeline, short: NDArray[np.int64], threads: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(where each group starts in `order`, order of `short` by group and start), at most MOST_MERGED groups."""
    starts = column_view(timeline.start_ns)[short]
    rows = int(column_view(timeline.wait).max()) + 2
    cause = (column_view(timeline.thread)[short].astype(np.int64) + 1) * rows + column_view(timeline.wait)[short] + 1
    begin, end = int(starts.min()), int(starts.max()) + 1
    bins = MOST_BINS
    while True:
        keys = (starts - begin) // max(1, -(-(end - begin) // bins)) + cause * bins
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        groups = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        if len(groups) <= MOST_MERGED or bins == 1:
            return groups, order
        bins //= 2


def _array(typecode: str, values: NDArray[np.int64]) -> array[int]:
    column = empty_column(typecode, len(values))
    column_view(column)[:] = values
    return column
