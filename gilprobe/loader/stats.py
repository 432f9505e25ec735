"""Where the workers' and the consumer's time went: the first level, without a recorder."""

from __future__ import annotations

from dataclasses import dataclass

from gilprobe.record.spans import connected, span


@dataclass(frozen=True)
class WorkerStats:
    """One worker's seconds by what it did. `output_wait_s` is the hand-over: there is room for every batch."""

    id: int
    batches: int
    index_wait_s: float
    dataset_s: float
    collate_s: float
    output_wait_s: float


@dataclass(frozen=True)
class LoaderStats:
    """`starved_s` is the consumer's wait for a batch. Depths and counts are in batches."""

    workers: tuple[WorkerStats, ...]
    starved_s: float
    batches: int
    queue_depth_max: int
    in_flight_max: int


class WorkerClock:
    """One worker's running sums in nanoseconds of CLOCK_MONOTONIC. Written by that worker only, so it needs no lock.

    The spans tell the recorder, where one is, which part the thread is in (gilprobe/analysis/loader.py reads them by
    these names). They are the worker's own objects: shared ones would make its threads contend for their reference
    counts. Entered by hand and only where `recorded`: eight calls that do nothing cost a microsecond a batch on 3.13t.
    """

    __slots__ = (
        "batches",
        "collate_ns",
        "dataset_ns",
        "id",
        "in_collate",
        "in_dataset",
        "in_index_wait",
        "in_output_wait",
        "index_wait_ns",
        "output_wait_ns",
        "recorded",
    )

    def __init__(self, worker_id: int) -> None:
        self.id = worker_id
        self.recorded = connected()
        self.in_index_wait = span("loader.index-wait")
        self.in_dataset = span("loader.dataset")
        self.in_collate = span("loader.collate")
        self.in_output_wait = span("loader.output-wait")
        self.batches = self.index_wait_ns = self.dataset_ns = self.collate_ns = self.output_wait_ns = 0

    def read(self) -> WorkerStats:
        return WorkerStats(
            self.id,
            self.batches,
            self.index_wait_ns / 1e9,
            self.dataset_ns / 1e9,
            self.collate_ns / 1e9,
            self.output_wait_ns / 1e9,
        )


class ConsumerClock:
    """The consumer's side, written by the consumer only."""

    __slots__ = ("batches", "in_flight_max", "in_starved", "queue_depth_max", "recorded", "starved_ns", "workers")

    def __init__(self, num_workers: int) -> None:
        self.recorded = connected()
        self.in_starved = span("loader.starved")
        self.workers = tuple(WorkerClock(worker_id) for worker_id in range(num_workers))
        self.starved_ns = self.batches = self.queue_depth_max = self.in_flight_max = 0

    def read(self) -> LoaderStats:
        return LoaderStats(
            tuple(clock.read() for clock in self.workers),
            self.starved_ns / 1e9,
            self.batches,
            self.queue_depth_max,
            self.in_flight_max,
        )
