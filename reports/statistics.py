"""Ratios of interleaved pairs, with the bootstrap bound that decides whether a bar holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

DRAWS = 4000
PAIRS = 31


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


def interleaved(on: Callable[[], float], off: Callable[[], float], pairs: int) -> tuple[Ratio, Ratio]:
    """(on / off, the control off / off). The order changes from pair to pair."""
    ons, offs, controls = [], [], []
    for number in range(pairs):
        if number % 2:
            ons.append(on())
            offs.append(off())
            controls.append(off())
        else:
            controls.append(off())
            offs.append(off())
            ons.append(on())
    return ratio_of(ons, offs), ratio_of(controls, offs)


def verdict(ratio: Ratio, control: Ratio, bar: float) -> str:
    """met: the upper bound meets the bar. undecided: noise reaches beyond it, or it lies within the bounds."""
    if ratio.high <= bar:
        return "met"
    if control.high > bar or ratio.low <= bar:
        return "undecided"
    return "missed"
