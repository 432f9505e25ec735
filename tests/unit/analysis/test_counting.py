"""Samples of a function that hardly does anything but count a hot object belong to the object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from gilprobe.analysis.counting import with_rest_of_functions

COUNTS, OTHER = 4096, 8192


def found(
    functions: Sequence[int], stacks: Sequence[int], touching: list[int], lines: list[list[int]]
) -> list[list[int]]:
    addresses, pc_of = np.unique(np.array(functions, np.uint64), return_inverse=True)
    positions = np.array(stacks, np.uint32)
    arrays = [np.array(line, np.int64) for line in lines]
    return [
        sorted(part.tolist())
        for part in with_rest_of_functions(positions, pc_of, addresses, np.array(touching, np.int64), arrays)
    ]


@pytest.mark.parametrize(
    ("on_line", "beside", "added"), [(9, 2, True), (8, 2, True), (7, 2, False)], ids=["most", "just", "too_few"]
)
def test_what_is_beside_the_line_is_added_where_the_function_does_hardly_anything_else(
    on_line: int, beside: int, added: bool
) -> None:
    whole = list(range(on_line + beside))
    line = whole[:on_line]
    assert found([COUNTS] * len(whole), [1] * len(whole), line, [line]) == [whole if added else line]


def test_other_functions_long_ones_and_what_touches_other_memory_are_left_out() -> None:
    functions = [COUNTS] * 12 + [OTHER] + [0] * 6
    line = [*range(10), *range(13, 18)]
    assert found(functions, [1] * 19, [*line, 10], [line]) == [[*range(10), 11, *range(13, 18)]]


def test_each_goes_to_the_line_that_its_python_position_touches_most() -> None:
    stacks = [1] * 10 + [2] * 10 + [1, 2, 3]
    line, other = [*range(9), 10], [9, *range(11, 19)]
    both = found([COUNTS] * 23, stacks, list(range(20)), [line, other])
    assert both == [[*line, 20, 22], [*other, 21]]


def test_no_lines() -> None:
    assert found([COUNTS] * 3, [1] * 3, [], []) == []
