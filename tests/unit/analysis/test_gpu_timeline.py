"""Who had the GPU, by hand and by property: nothing is invented, nothing counted twice."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gilprobe.analysis.gpu_ownership import ownership
from gilprobe.analysis.gpu_timeline import (
    changes_of,
    clock_bounds,
    idle_within,
    intervals_of,
    residency_of,
    union_of,
)
from gilprobe.recording import cuda_schema as schema
from gilprobe.recording.cuda_schema import GpuMarkKind

Part = tuple[list[int], list[int], int]
parts = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 1000), st.integers(0, 50)), min_size=1, max_size=60
)  # owner, start, length


def arrays(rows: list[tuple[int, int, int]]) -> list[Part]:
    return [([start], [start + length], owner) for owner, start, length in rows]


def marks(*rows: tuple[GpuMarkKind, int, int, int]) -> np.ndarray:
    made = np.zeros(len(rows), schema.GPU_MARK)
    for at, (kind, time_ns, context, correlation) in enumerate(rows):
        made[at]["kind"], made[at]["time_ns"] = kind, time_ns
        made[at]["context"], made[at]["correlation"] = context, correlation
    return made


def test_two_owners_by_turns() -> None:
    """Owner 1 has 10-20 and 40-50, owner 2 has 25-35: two changes, gaps of 5 each, in 40 ns."""
    intervals = intervals_of([([10, 40], [20, 50], 1), ([25], [35], 2)])
    assert changes_of(intervals).at.tolist() == [25, 40]
    assert changes_of(intervals).gap.tolist() == [5, 5]
    found = ownership(intervals, intervals, {1: 0, 2: 0})
    assert found["changes"] == 2 and found["gaps"]["count"] == 2
    assert round(found["gaps"]["share"], 3) == 0.25 and round(found["busy_s"] * 1e9) == 30


def test_one_owner_or_two_devices_never_change_hands() -> None:
    alone = intervals_of([([10, 40], [20, 50], 1)])
    assert ownership(alone, alone, {1: 0})["changes"] == 0
    apart = intervals_of([([10, 40], [20, 50], 1), ([25], [35], 2)])
    assert ownership(apart, apart, {1: 0, 2: 1})["changes"] == 0


def test_nothing_at_all_gives_no_figure_but_zero() -> None:
    nothing = intervals_of([])
    found = ownership(nothing, nothing, {})
    assert (found["gpu_s"], found["changes"], found["changes_per_s"], found["gaps"]["share"]) == (0, 0, 0, 0)


def test_residency_pairs_each_start_with_the_end_that_follows() -> None:
    start, end = GpuMarkKind.SWITCH_START, GpuMarkKind.SWITCH_END
    found, alone = residency_of(
        marks((end, 5, 1, 0), (start, 10, 1, 0), (end, 20, 1, 0), (start, 30, 1, 0), (start, 15, 2, 0), (end, 18, 2, 0))
    )
    assert {context: [array.tolist() for array in spans] for context, spans in found.items()} == {
        1: [[10], [20]],
        2: [[15], [18]],
    }
    assert alone == 2


def test_the_clock_lies_between_what_launches_and_synchronisations_allow() -> None:
    """True times 100-200, shown 7 too late; launched at 98, synchronised at 205: the error lies in (2, 9)."""
    work = np.zeros(1, schema.GPU_WORK)
    work[0]["start_ns"], work[0]["end_ns"], work[0]["correlation"] = 107, 207, 3
    seen = marks((GpuMarkKind.HOST_LAUNCH, 98, 1, 3), (GpuMarkKind.HOST_SYNCHRONIZED, 205, 1, 3))
    assert clock_bounds(work, seen) == (2, 9)
    assert clock_bounds(work, marks()) == (None, None)
    assert clock_bounds(work, marks((GpuMarkKind.HOST_LAUNCH, 98, 1, 4))) == (None, None)


@given(parts)
def test_busy_time_is_never_more_than_the_sum_nor_than_the_span(rows: list[tuple[int, int, int]]) -> None:
    intervals = intervals_of(arrays(rows))
    start, end = union_of(intervals.start, intervals.end)
    busy = int((end - start).sum())
    assert busy <= sum(length for _, _, length in rows)
    assert busy <= intervals.end.max() - intervals.start.min()
    assert (start[1:] > end[:-1]).all()


@given(parts)
def test_gaps_are_idle_time_and_changes_need_two_owners(rows: list[tuple[int, int, int]]) -> None:
    intervals = intervals_of(arrays(rows))
    changes = changes_of(intervals)
    start, end = union_of(intervals.start, intervals.end)
    idle = int(intervals.end.max() - intervals.start.min() - (end - start).sum())
    assert 0 <= int(changes.gap.sum()) <= idle
    assert len(changes.at) <= len(intervals) - 1
    if len({owner for owner, _, _ in rows}) == 1:
        assert not len(changes.at)


@given(parts)
def test_the_order_of_records_changes_nothing(rows: list[tuple[int, int, int]]) -> None:
    unique = list({start: (owner, start, length) for owner, start, length in rows}.values())
    turned = unique[::-1]
    first, second = intervals_of(arrays(unique)), intervals_of(arrays(turned))
    assert changes_of(first).at.tolist() == changes_of(second).at.tolist()


@given(parts, st.integers(0, 1200), st.integers(0, 300))
def test_idle_within_is_what_counting_nanoseconds_gives(rows: list[tuple[int, int, int]], at: int, length: int) -> None:
    intervals = intervals_of(arrays(rows))
    busy = union_of(intervals.start, intervals.end)
    covered = {ns for _, start, long in rows for ns in range(start, start + long)}
    expected = sum(ns not in covered for ns in range(at, at + length))
    assert idle_within(np.array([at]), np.array([at + length]), *busy).tolist() == [expected]


def test_a_start_whose_end_was_lost_is_no_residency() -> None:
    start, end = GpuMarkKind.SWITCH_START, GpuMarkKind.SWITCH_END
    found, alone = residency_of(marks((start, 5, 1, 0), (start, 10, 1, 0), (end, 20, 1, 0), (start, 30, 1, 0)))
    assert [array.tolist() for array in found[1]] == [[10], [20]] and alone == 2
