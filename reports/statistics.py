"""Ratios of interleaved pairs, with the bootstrap bound that decides whether a bar holds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 4000
PAIRS = 31


@dataclass(frozen=True)
class Median:
    """Of `pairs` interleaved runs, or sets of runs. low and high bound it with 95 % confidence (bootstrap)."""

    median: float
    low: float
    high: float
    pairs: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def median_of(values: Sequence[float] | NDArray[Any]) -> Median:
    array = np.array(values)
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(array, (DRAWS, len(array))), axis=1)
    return Median(
        float(np.median(array)), float(np.percentile(medians, 2.5)), float(np.percentile(medians, 97.5)), len(array)
    )


def ratio_of(numerators: list[float], denominators: list[float]) -> Median:
    return median_of(np.array(numerators) / np.array(denominators))


def interleaved(
    on: Callable[[], float], off: Callable[[], float], pairs: int, seconds: float = 0.0
) -> tuple[Median, Median]:
    """(on / off, the control off / off) of as many rounds of three as fit into `seconds`, but `pairs` at least; each
    round in an order drawn anew. How long it goes on never depends on what is found.
    """
    order = random.Random(0)
    taken: tuple[list[float], ...] = ([], [], [])
    end = time.monotonic() + seconds
    while len(taken[0]) < pairs or time.monotonic() < end:
        for which in order.sample(range(3), 3):
            taken[which].append((on, off, off)[which]())
    ons, offs, controls = taken
    return ratio_of(ons, offs), ratio_of(controls, offs)


def verdict(ratio: Median, control: Median, bar: float) -> str:
    """met: the upper bound meets the bar. undecided: noise reaches beyond it, or it lies within the bounds, or the
    pairs are too few to say.
    """
    if ratio.pairs < PAIRS:
        return "undecided"
    if ratio.high <= bar:
        return "met"
    if control.high > bar or ratio.low <= bar:
        return "undecided"
    return "missed"
