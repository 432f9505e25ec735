"""The thread that fetches batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from time import monotonic_ns
from typing import Any, NamedTuple

import torch

from gilprobe.loader import rows, torch_seams
from gilprobe.loader.codecs import CodecWatch
from gilprobe.loader.isolation import Replicas
from gilprobe.loader.stats import WorkerClock
from gilprobe.loader.torch_seams import Failure
from gilprobe.loader.worker_info import set_worker_info
from gilprobe.loader.writes import WriteWatch, enter_worker


class Task(NamedTuple):
    epoch: int
    number: int
    index: Any


@dataclass(frozen=True)
class Restart:
    """The next epoch of persistent workers: an iterable dataset begins anew."""

    epoch: int


@dataclass(frozen=True)
class Ended:
    """This worker's iterable dataset has no more."""


@dataclass(frozen=True)
class Died:
    """The worker ended without being told to; `failure` is None where even that is unknown."""

    failure: Failure | None


@dataclass
class Job:
    """All that the workers of one iterator share. It knows nothing of the iterator, which can so be collected."""

    replicas: Replicas
    iterable: bool
    auto_collation: bool
    collate_fn: Callable[[Any], Any]
    drop_last: bool
    base_seed: int
    num_workers: int
    prefetch: int
    accelerator: str | None
    device_index: int | None
    results: SimpleQueue[tuple[int, int, int, Any]] = field(default_factory=SimpleQueue)
    epoch: int = 0
    stopped: bool = False
    watch: WriteWatch | None = None
    codecs: CodecWatch | None = None


class Worker:
    """A daemon thread named for its place, with its own index queue and its own clock."""

    def __init__(self, job: Job, worker_id: int, clock: WorkerClock) -> None:
        self.id = worker_id
        self.alive = True
        self.tasks: SimpleQueue[Task | Restart | None] = SimpleQueue()
        self.thread = threading.Thread(
            target=_run, args=(job, worker_id, self.tasks, clock), name=f"gilprobe-loader-{worker_id}", daemon=True
        )
        self.thread.start()


class _Stopped(Exception):
    """The iterator is gone: the rest of the batch is not wanted."""


def _run(job: Job, worker_id: int, tasks: SimpleQueue[Task | Restart | None], clock: WorkerClock) -> None:
    told_to_end = False
    failure: Failure | None = None
    try:
        torch.set_num_threads(1)
        enter_worker(job.watch)
        _serve(job, worker_id, tasks, clock)
        told_to_end = True
    except BaseException:
        failure = torch_seams.failure(f"in DataLoader worker thread {worker_id}")
    finally:
        set_worker_info(None)
        if not told_to_end:
            job.results.put((job.epoch, -1, worker_id, Died(failure)))


def _serve(job: Job, worker_id: int, tasks: SimpleQueue[Task | Restart | None], clock: WorkerClock) -> None:
    where = f"in DataLoader worker thread {worker_id}"
    init_failure: Failure | None = None
    fetcher: _Fetcher | None = None
    # What is outstanding of this worker's, and what the consumer holds.
    pool = rows.Pool(job.prefetch + 1)
    try:
        dataset, init_fn = job.replicas.take()
        set_worker_info(torch_seams.worker_info(worker_id, job.num_workers, job.base_seed, dataset))
        if job.accelerator is not None and job.device_index is not None:
            torch.accelerator.set_device_index(job.device_index)
        if init_fn is not None:
            init_fn(worker_id)
        fetcher = _Fetcher(job, dataset, clock, pool)
    except BaseException:
        init_failure = torch_seams.failure(where)

    ended = False
    results, recorded = job.results, clock.recorded
    before = monotonic_ns()
    while True:
        if recorded:
            clock.in_index_wait.__enter__()
        task = tasks.get()
        if recorded:
            clock.in_index_wait.__exit__(None, None, None)
        clock.index_wait_ns += monotonic_ns() - before
        if task is None:
            return
        before = monotonic_ns()
        if job.stopped or task.epoch != job.epoch:
            continue
        if isinstance(task, Restart):
            ended = False
            if fetcher is not None:
                try:
                    fetcher = _Fetcher(job, fetcher.dataset, clock, pool)
                except BaseException:
                    init_failure, fetcher = torch_seams.failure(where), None
            continue
        if ended:
            continue
        data: Any
        if fetcher is None:
            data = init_failure
        else:
            try:
                data = fetcher.fetch(task.index)
                if job.accelerator is not None:
                    data = _pinned(data, job.accelerator, job.device_index)
            except _Stopped:
                continue
            except BaseException as error:
                if job.iterable and isinstance(error, StopIteration):
                    data, ended = Ended(), True
                else:
                    data = torch_seams.failure(where)
        handed = monotonic_ns()
        # Before the consumer can have it and ask how many there were.
        clock.batches += 1
        if recorded:
            clock.in_output_wait.__enter__()
        results.put((task.epoch, task.number, worker_id, data))
        if recorded:
            clock.in_output_wait.__exit__(None, None, None)
        # Holding on to the batch until the next one is ready would keep its memory alive.
        del data, task
        before = monotonic_ns()
        clock.output_wait_ns += before - handed


class _Fetcher:
    """Samples, then collate, each on its own clock."""

    def __init__(self, job: Job, dataset: Any, clock: WorkerClock, pool: rows.Pool) -> None:
        self.job = job
        self.dataset = dataset
        self.clock = clock
        self.samples: Iterator[Any] | None = iter(dataset) if job.iterable else None
        self.ended = False
        self.codecs = job.codecs
        self.pool = pool

    def fetch(self, index: Any) -> Any:
        clock, recorded = self.clock, self.clock.recorded
        start = monotonic_ns()
        if recorded:
            clock.in_dataset.__enter__()
        try:
            samples = self._map_samples(index) if self.samples is None else self._iterable_samples(index)
        finally:
            if recorded:
                clock.in_dataset.__exit__(None, None, None)
            middle = monotonic_ns()
            clock.dataset_ns += middle - start
        if self.codecs is not None:
            self._look_for_codecs()
        if recorded:
            clock.in_collate.__enter__()
        try:
            return samples.batch() if type(samples) is rows.Rows else self.job.collate_fn(samples)
        finally:
            if recorded:
                clock.in_collate.__exit__(None, None, None)
            clock.collate_ns += monotonic_ns() - middle

    def _map_samples(self, index: Any) -> Any:
        dataset = self.dataset
        if not self.job.auto_collation:
            return dataset[index]
        if hasattr(dataset, "__getitems__") and dataset.__getitems__:
            return dataset.__getitems__(index)
        job, samples = self.job, []
        batch: rows.Rows | None = None
        for one in index:
            if job.stopped:
                raise _Stopped
            sample = dataset[one]
            if batch is None:
                samples.append(sample)
                if len(samples) == 1:
                    batch = self._first_sample(sample, index)
                    if batch is not None:
                        samples.clear()
            elif not self._add(batch, sample):
                samples, batch = [*batch.samples(), sample], None
        return samples if batch is None else batch

    def _first_sample(self, sample: Any, index: Any) -> rows.Rows | None:
        if self.codecs is not None:
            self._look_for_codecs()
        batch = rows.begin(sample, len(index), self.job.collate_fn, self.pool) if hasattr(index, "__len__") else None
        if batch is not None:
            self._add(batch, sample)
        return batch

    def _add(self, batch: rows.Rows, sample: Any) -> bool:
        """Counts as collate, though it comes between samples."""
        clock, recorded = self.clock, self.clock.recorded
        start = monotonic_ns()
        if recorded:
            clock.in_dataset.__exit__(None, None, None)
            clock.in_collate.__enter__()
        added = batch.add(sample)
        if recorded:
            clock.in_collate.__exit__(None, None, None)
            clock.in_dataset.__enter__()
        taken = monotonic_ns() - start
        clock.collate_ns += taken
        clock.dataset_ns -= taken
        return added

    def _look_for_codecs(self) -> None:
        assert self.codecs is not None
        self.codecs.look(self.dataset)
        self.codecs = None

    def _iterable_samples(self, index: Any) -> Any:
        assert self.samples is not None
        if self.ended:
            raise StopIteration
        if not self.job.auto_collation:
            return next(self.samples)
        batch: list[Any] = []
        for _ in index:
            if self.job.stopped:
                raise _Stopped
            try:
                batch.append(next(self.samples))
            except StopIteration:
                self.ended = True
                break
        if not batch or (self.job.drop_last and len(batch) < len(index)):
            raise StopIteration
        return batch


def _pinned(data: Any, accelerator: str, device_index: int | None) -> Any:
    try:
        return torch_seams.pin(data, accelerator)
    except Exception:
        return torch_seams.failure(f"in pin memory thread for device {device_index}")
