"""The rule that tells a contended cache line: two threads or more, and at least 5 % of its samples atomic."""

from __future__ import annotations

import numpy as np
import pytest

from gilprobe.analysis.atomics import Touches, shared_lines
from gilprobe.recording import schema


def kept(threads: list[int], atomics: int) -> bool:
    """Whether a line is kept that these threads sampled, beside a thousand samples of lines of their own."""
    alone = 1000
    samples = np.zeros(len(threads) + alone, schema.SAMPLE_RECORD)
    samples["thread"] = np.concatenate([threads, np.arange(alone) % 2])
    lines = np.concatenate([np.full(len(threads), 5), 1000 + np.arange(alone) % 2]).astype(np.uint64)
    atomic = np.arange(len(samples)) < atomics
    atomic[len(threads) :] = True
    found = shared_lines(samples, Touches(np.arange(len(samples)), lines, atomic))
    assert all(set(rows.tolist()) == set(range(len(threads))) for rows in found)
    return bool(found)


@pytest.mark.parametrize(
    ("threads", "atomics", "expected"),
    [
        ([0, 1] * 50, 5, True),
        ([0, 1] * 50, 4, False),
        ([0] * 100, 100, False),
        ([0] * 99 + [1], 100, False),
        ([0, 1], 2, False),
        ([0, 1, 2] * 2, 3, True),
    ],
)
def test_a_line_is_shared(threads: list[int], atomics: int, expected: bool) -> None:
    assert kept(threads, atomics) is expected


def test_no_samples_no_lines() -> None:
    empty = np.empty(0, np.int64)
    assert shared_lines(np.empty(0, schema.SAMPLE_RECORD), Touches(empty, empty.astype(np.uint64), empty > 0)) == []
