"""The statistics that decide the bars of reports.overhead, on figures whose truth is known."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gilprobe.launch.target import Options
from reports.overhead.lockstep import MEASURES, Worker, compare, measure
from reports.statistics import Median, median_of, verdict

SETS, ROUNDS, SLICE_S = 31, 10, 0.02


def drawn(seed: int, *, factor: float, addresses: float = 0.02, noise: float = 0.05, sets: int = SETS) -> NDArray[Any]:
    """Slices of processes each of which has its own luck; those of the first in each set are `factor` dearer."""
    rng = np.random.default_rng(seed)
    luck = rng.normal(0, addresses, (sets, 3, 1))
    machine = rng.normal(0, 0.2, (sets, 1, ROUNDS))
    taken = SLICE_S * np.exp(luck + machine + rng.normal(0, noise, (sets, 3, ROUNDS)))
    taken[:, 0] *= factor
    return taken


def test_bounds_hold_the_truth_where_addresses_make_processes_unlike() -> None:
    found = [compare(drawn(seed, factor=1.03, addresses=0.05, noise=0.02)) for seed in range(15)]
    assert sum(each.ratio.low <= 1.03 <= each.ratio.high for each in found) >= 13
    assert sum(each.control.low <= 1.0 <= each.control.high for each in found) >= 13


def test_more_slices_of_the_same_processes_are_no_more_processes() -> None:
    few = drawn(1, factor=1.0, noise=0.001, sets=6)
    often = np.concatenate([few] * 20, axis=2)
    once, again = compare(few).ratio, compare(often).ratio
    assert again.pairs == once.pairs == 6
    assert again.high - again.low == pytest.approx(once.high - once.low, rel=0.1)


def test_what_the_machine_does_to_a_round_is_in_no_ratio() -> None:
    taken = drawn(2, factor=1.04, addresses=0.0, noise=0.0)
    found = compare(taken)
    assert found.ratio.median == pytest.approx(1.04) and found.sums.median == pytest.approx(1.04)
    assert found.ratio.high - found.ratio.low < 1e-9


def test_the_cost_added_is_that_of_a_slice() -> None:
    rng = np.random.default_rng(3)
    taken = SLICE_S * np.exp(rng.normal(0, 0.001, (SETS, 3, ROUNDS)))
    taken[:, 0] += 0.004
    found = compare(taken).added_s
    assert found.low < 0.004 < found.high
    assert found.median == pytest.approx(0.004, rel=0.05)


def test_a_cost_of_few_slices_keeps_a_bar_from_being_met() -> None:
    taken = drawn(4, factor=1.0, addresses=0.005, noise=0.01)
    assert compare(taken).verdict(1.05) == "met"
    taken[:, 0, 3] += 10 * SLICE_S
    found = compare(taken)
    assert found.ratio.high < 1.05 < found.sums.low
    assert found.verdict(1.05) == "undecided"


@pytest.mark.parametrize(
    ("factor", "sets", "expected"), [(1.0, SETS, "met"), (1.5, SETS, "missed"), (1.0, SETS - 1, "undecided")]
)
def test_verdicts(factor: float, sets: int, expected: str) -> None:
    assert compare(drawn(5, factor=factor, sets=sets)).verdict(1.05) == expected


def test_a_bar_within_the_bounds_or_the_noise_is_undecided() -> None:
    quiet, wide = Median(1.0, 0.99, 1.01, 31), Median(1.0, 0.9, 1.1, 31)
    assert verdict(Median(1.04, 1.02, 1.06, 31), quiet, 1.05) == "undecided"
    assert verdict(Median(1.08, 1.06, 1.09, 31), wide, 1.05) == "undecided"
    assert verdict(Median(1.08, 1.06, 1.09, 31), quiet, 1.05) == "missed"


def test_the_median_of_equal_values_has_no_spread() -> None:
    assert median_of([2.0] * 31) == Median(2.0, 2.0, 2.0, 31)


def test_a_set_has_a_figure_of_each_process_round_and_measure() -> None:
    taken = measure(sys.executable, "cpu_bound", Options(rate_hz=100), one_core=True, least=1, rounds=2)
    assert taken.keys() == MEASURES.keys()
    assert all(values.shape == (1, 3, 2) and (values > 0).all() for values in taken.values())


def test_work_that_ends_early_says_so_and_how_to_see_why() -> None:
    with Worker([sys.executable, "-c", "raise SystemExit(3)"], os.environ) as worker:
        worker._process.wait()  # so that it is the write that fails
        with pytest.raises(SystemExit, match=r"status 3\n.*raise SystemExit"):
            worker.slice()
