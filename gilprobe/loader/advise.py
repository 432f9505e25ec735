"""Threads or processes, and how many, for the user's own dataset."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from torch.utils.data import DataLoader, Dataset, IterableDataset

from gilprobe.errors import GilprobeError, UsageError
from gilprobe.loader.dataloader import ThreadDataLoader

Method = Literal["threads", "processes"]
METHODS: tuple[Method, ...] = ("threads", "processes")

# Trials that differ by less cannot be told apart on a shared machine; the one with fewer workers is then preferred.
_ALIKE = 1.05


@dataclass(frozen=True)
class Trial:
    """batches_per_s: one value a visit. train_delay: the train step beside the workers over it alone (1: none)."""

    method: Method
    num_workers: int
    first_batch_s: float
    batches_per_s: tuple[float, ...]
    train_delay: float | None
    error: str | None = None

    @property
    def speed(self) -> float:
        return median(self.batches_per_s) if self.batches_per_s else 0.0


@dataclass(frozen=True)
class Advice:
    """confirmed: None when it was not asked for, else whether a longer run agreed."""

    method: Method
    num_workers: int
    trials: tuple[Trial, ...]
    reasons: tuple[str, ...]
    confirmed: bool | None


def advise(
    dataset: Dataset[Any],
    *,
    batch_size: int = 32,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    workers: Sequence[int] = (1, 2, 4),
    train_step: Callable[[Any], object] | None = None,
    budget_s: float = 60,
    confirm: bool = False,
) -> Advice:
    """Short trials of threads and processes (by the default start method), interleaved, then a recommendation.

    train_step is called with each batch; how much slower it gets beside the workers counts.
    Raises GilprobeError when every trial failed.
    """
    if not workers or not all(isinstance(count, int) and count >= 1 for count in workers):
        raise UsageError(f"workers={workers!r} holds no worker counts", "Give counts of 1 or more, such as (1, 2, 4).")
    if budget_s <= 0:
        raise UsageError(f"budget_s={budget_s!r} is no time", "Give seconds, such as 60.")
    plans: list[tuple[Method, int]] = [(method, count) for count in workers for method in METHODS]
    options = {"batch_size": batch_size, "collate_fn": collate_fn}
    alone_s = _step_alone(dataset, options, train_step)
    visits = 2
    slice_s = budget_s * (0.6 if confirm else 1.0) / (visits * len(plans))
    found: dict[tuple[Method, int], list[Trial]] = {plan: [] for plan in plans}
    for visit in range(visits):
        for plan in plans if visit % 2 == 0 else reversed(plans):
            found[plan].append(_trial(dataset, plan, options, train_step, alone_s, slice_s))
    trials = tuple(_merge(visited) for visited in found.values())
    best = _best(trials)
    confirmed = None
    if confirm:
        rivals = [t for t in trials if t.method != best.method and t.error is None] or [best]
        rival = max(rivals, key=lambda trial: trial.speed)
        pair = [
            _trial(dataset, (trial.method, trial.num_workers), options, train_step, alone_s, budget_s * 0.2)
            for trial in (best, rival)
        ]
        confirmed = pair[0].speed * _ALIKE >= pair[1].speed
    return Advice(best.method, best.num_workers, trials, _reasons(best, trials), confirmed)


def _step_alone(
    dataset: Dataset[Any], options: dict[str, Any], train_step: Callable[[Any], object] | None
) -> float | None:
    if train_step is None:
        return None
    batch = next(iter(DataLoader(dataset, **options)))
    times = []
    for _ in range(4):
        start = time.monotonic()
        train_step(batch)
        times.append(time.monotonic() - start)
    return median(times[1:])


def _trial(
    dataset: Dataset[Any],
    plan: tuple[Method, int],
    options: dict[str, Any],
    train_step: Callable[[Any], object] | None,
    alone_s: float | None,
    slice_s: float,
) -> Trial:
    method, count = plan
    kind: type[DataLoader[Any]] = ThreadDataLoader if method == "threads" else DataLoader
    steps: list[float] = []
    try:
        start = time.monotonic()
        iterator = iter(kind(dataset, num_workers=count, **options))
        if next(iterator, iterator) is iterator:
            return Trial(method, count, 0.0, (), None, "the dataset gave no batch")
        first_s = time.monotonic() - start
        # The first batch of a process may take longer than the slice: every trial then still measures something.
        begin, batches = time.monotonic(), 0
        while batches < 2 or time.monotonic() - begin < slice_s:
            batch = next(iterator, iterator)
            if batch is iterator:
                if isinstance(dataset, IterableDataset) or batches >= 2:
                    break
                iterator = iter(kind(dataset, num_workers=count, **options))
                continue
            batches += 1
            if train_step is not None:
                step = time.monotonic()
                train_step(batch)
                steps.append(time.monotonic() - step)
        speed = batches / (time.monotonic() - begin)
    except Exception as error:
        return Trial(method, count, 0.0, (), None, f"{type(error).__name__}: {error}".splitlines()[0])
    delay = median(steps) / alone_s if steps and alone_s else None
    return Trial(method, count, first_s, (speed,), delay)


def _merge(visits: Sequence[Trial]) -> Trial:
    failed = next((trial for trial in visits if trial.error is not None), None)
    if failed is not None:
        return failed
    delays = [trial.train_delay for trial in visits if trial.train_delay is not None]
    return Trial(
        visits[0].method,
        visits[0].num_workers,
        median(trial.first_batch_s for trial in visits),
        tuple(speed for trial in visits for speed in trial.batches_per_s),
        median(delays) if delays else None,
    )


def _best(trials: Sequence[Trial]) -> Trial:
    whole = [trial for trial in trials if trial.error is None]
    if not whole:
        raise GilprobeError(
            f"no trial gave a batch: {trials[0].error}", "Iterate the dataset with num_workers=0 first."
        )
    top = max(trial.speed for trial in whole)
    alike = [trial for trial in whole if trial.speed * _ALIKE >= top]
    return min(alike, key=lambda trial: (trial.num_workers, trial.method != "threads"))


def _reasons(best: Trial, trials: Sequence[Trial]) -> tuple[str, ...]:
    said = [
        f"{best.method} with {best.num_workers} worker(s): {_speed(best)}, first batch in {best.first_batch_s:.3f} s"
    ]
    for trial in trials:
        if trial.error is not None:
            said.append(f"{trial.method} with {trial.num_workers} worker(s) failed: {trial.error}")
        elif trial.num_workers == best.num_workers and trial.method != best.method:
            said.append(f"{trial.method} with as many: {_speed(trial)}, first batch in {trial.first_batch_s:.3f} s")
    if best.train_delay is not None:
        said.append(f"beside its workers the train step takes {best.train_delay:.2f}x its time alone")
    if any(trial.error is None and best.speed < trial.speed for trial in trials):
        said.append(f"faster trials were within {_ALIKE - 1:.0%}: fewer workers, and threads, are preferred then")
    return tuple(said)


def _speed(trial: Trial) -> str:
    return f"{trial.speed:.1f} batches/s ({min(trial.batches_per_s):.1f}-{max(trial.batches_per_s):.1f})"
