"""The Universal Scalability Law: throughput(n) = rate * n / (1 + contention * (n - 1) + coherency * n * (n - 1))."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

WORKER_COUNTS_MIN = 4


@dataclass(frozen=True)
class Fit:
    """Terms with their bootstrap intervals (2.5-97.5 %). `peak_workers` is None where the fit finds no maximum."""

    rate: float
    contention: float
    contention_interval: tuple[float, float]
    coherency: float
    coherency_interval: tuple[float, float]
    peak_workers: float | None

    def throughput(self, workers: int) -> float:
        spread = workers - 1
        return self.rate * workers / (1 + self.contention * spread + self.coherency * workers * spread)


def fit(samples: Mapping[int, Sequence[float]], *, resamples: int = 1000, seed: int = 1) -> Fit | None:
    """samples: worker count -> throughputs. None below four worker counts.

    workers / throughput is linear in (1, n - 1, n * (n - 1)), so that least squares are exact.
    Source: Gunther, Guerrilla Capacity Planning, chapter 5. Terms are held at 0 or above.
    """
    counts = sorted(samples)
    if len(counts) < WORKER_COUNTS_MIN:
        return None
    rng = np.random.default_rng(seed)
    rate, contention, coherency = _solve(counts, [float(np.median(samples[count])) for count in counts])
    drawn = np.array(
        [
            _solve(counts, [float(np.median(rng.choice(samples[count], len(samples[count])))) for count in counts])
            for _ in range(resamples)
        ]
    )
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    peak = float(np.sqrt((1 - contention) / coherency)) if coherency > 0 and contention < 1 else None
    return Fit(
        rate,
        contention,
        (float(low[1]), float(high[1])),
        coherency,
        (float(low[2]), float(high[2])),
        peak,
    )


def _solve(counts: Sequence[int], throughputs: Sequence[float]) -> tuple[float, float, float]:
    n = np.array(counts, dtype=float)
    columns = np.stack([np.ones_like(n), n - 1, n * (n - 1)], axis=1)
    target = n / np.array(throughputs)
    kept = [0, 1, 2]
    while True:
        terms, *_ = np.linalg.lstsq(columns[:, kept], target, rcond=None)
        negative = [column for column, term in zip(kept, terms, strict=True) if column and term < 0]
        if not negative:
            break
        kept.remove(negative[-1])
    full = np.zeros(3)
    full[kept] = terms
    return 1 / full[0], full[1] / full[0], full[2] / full[0]
