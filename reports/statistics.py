"""Ratios of interleaved pairs, with the bootstrap bound that decides whether a bar holds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

DRAWS = 4000
PAIRS = 31
T = TypeVar("T")


@dataclass(frozen=True)
class Ratio:
    """Of `pairs` interleaved runs. low and high bound the median with 95 % confidence (bootstrap)."""

    median: float
    low: float
    high: float
    pairs: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def ratio_of(numerators: list[float], denominators: list[float]) -> Ratio:
    ratios = np.array(numerators) / np.array(denominators)
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (DRAWS, len(ratios))), axis=1)
    return Ratio(
        float(np.median(ratios)), float(np.percentile(medians, 2.5)), float(np.percentile(medians, 97.5)), len(ratios)
    )


def taken_in_turn(on: Callable[[], T], off: Callable[[], T], pairs: int, seconds: float) -> tuple[list[T], ...]:
    """(on, off, off again) of as many rounds as fit into `seconds`, but `pairs` at least; each round in an order drawn
    anew. How long it goes on never depends on what is found.
    """
    order = random.Random(0)
    taken: tuple[list[T], ...] = ([], [], [])
    end = time.monotonic() + seconds
    while len(taken[0]) < pairs or time.monotonic() < end:
        for which in order.sample(range(3), 3):
            taken[which].append((on, off, off)[which]())
    return taken


def interleaved(
    on: Callable[[], float], off: Callable[[], float], pairs: int, seconds: float = 0.0
) -> tuple[Ratio, Ratio]:
    """(on / off, the control off / off), by `taken_in_turn`."""
    ons, offs, controls = taken_in_turn(on, off, pairs, seconds)
    return ratio_of(ons, offs), ratio_of(controls, offs)


def verdict(ratio: Ratio, control: Ratio, bar: float) -> str:
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
