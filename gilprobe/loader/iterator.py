"""The consumer's side: what is sent to which worker, and in which order it comes back."""

from __future__ import annotations

import atexit
import itertools
import os
import queue
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from gilprobe.loader import torch_seams
from gilprobe.loader.stats import ConsumerClock
from gilprobe.loader.worker import Died, Ended, Job, Restart, Task, Worker

if TYPE_CHECKING:
    from gilprobe.loader.dataloader import ThreadDataLoader

T = TypeVar("T")

# How often a consumer without a timeout looks whether its workers still live (torch's MP_STATUS_CHECK_INTERVAL).
_STATUS_CHECK_S = 5.0
# Workers that return at all do so at the next sample. One that never returns must not delay the exit.
_JOIN_S = 0.5
_EXIT_S = 1.0


class ThreadIterator(Iterator[T], Generic[T]):
    """One pass over the loader (or, with persistent workers, one after the other)."""

    def __init__(self, loader: ThreadDataLoader[T], job: Job, clock: ConsumerClock) -> None:
        self._job = job
        self._clock = clock
        self._prefetch = loader.prefetch_factor or 0
        if self._prefetch <= 0:
            raise AssertionError("prefetch_factor must be greater than 0 for MultiProcessingDataLoaderIter")
        self._in_order = loader.in_order
        self._timeout = loader.timeout
        self._persistent = loader.persistent_workers
        self._dataset = loader.dataset
        self._index_sampler: Any = loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
        self._shutdown = False
        self._pid = os.getpid()
        self._profile_name = f"enumerate(DataLoader)#{type(self).__name__}.__next__"
        # torch.set_num_threads(1) in a worker also sets what later threads begin with: see _restore_num_threads.
        self._unrestored = job.num_workers
        self._workers = [Worker(job, worker_id, clock.workers[worker_id]) for worker_id in range(job.num_workers)]
        _live.add(self)
        _threads.update(worker.thread for worker in self._workers)
        self._begin(loader)

    @property
    def is_the_parents(self) -> bool:
        """Made before a fork: its threads are not in this process."""
        return self._pid != os.getpid()

    def reset(self, loader: ThreadDataLoader[T]) -> None:
        """The next epoch of persistent workers."""
        if self._shutdown:
            raise RuntimeError("DataLoader iterator was shut down")
        self._job.epoch += 1
        for worker in self._workers:
            if worker.alive:
                worker.tasks.put(Restart(self._job.epoch))
        self._begin(loader)

    def _begin(self, loader: ThreadDataLoader[T]) -> None:
        self._reported_length = loader.reported_length
        self._yielded = 0
        self._sampler = iter(self._index_sampler)
        self._sent = self._received = self._outstanding = 0
        # number -> worker id, or the batch that came before its turn
        self._owner: dict[int, int] = {}
        self._early: dict[int, Any] = {}
        self._active = [worker.alive for worker in self._workers]
        self._load = [0] * len(self._workers)
        self._cycle = itertools.cycle(range(len(self._workers)))
        for _ in range(self._prefetch * len(self._workers)):
            self._send_one()

    def __iter__(self) -> ThreadIterator[T]:
        return self

    def __next__(self) -> T:
        with torch_seams.log_range(self._profile_name):
            data = self._next()
            self._yielded += 1
            if self._job.iterable and self._reported_length is not None and self._yielded > self._reported_length:
                self._warn_of_length(self._reported_length)
            return data

    def __len__(self) -> int:
        return len(self._index_sampler)

    def __getstate__(self) -> Any:
        raise NotImplementedError("{} cannot be pickled", self.__class__.__name__)

    def __del__(self) -> None:
        # A half-made iterator has no workers; at interpreter exit module globals may be gone.
        if hasattr(self, "_workers") and not self._shutdown:
            self.shutdown(join_s=0.0)

    def shutdown(self, join_s: float = _JOIN_S) -> None:
        """Ends the workers. Waits at most `join_s` for all of them; a thread cannot be killed, but is a daemon."""
        if self._shutdown:
            return
        self._shutdown = True
        self._job.stopped = True
        self._early.clear()
        for worker in self._workers:
            worker.tasks.put(None)
        deadline = time.monotonic() + join_s
        for worker in self._workers:
            left_s = deadline - time.monotonic()
            if left_s > 0 and worker.thread is not threading.current_thread():
                worker.thread.join(left_s)

    def _next(self) -> T:
        while True:
            number = self._next_number()
            if number is None:
                if not self._persistent:
                    self.shutdown()
                raise StopIteration
            if number in self._early:
                self._received += 1
                return self._hand_over(self._owner.pop(number), self._early.pop(number))
            number, worker_id, data = self._take()
            if isinstance(data, Died):
                self._bury(worker_id, data)
            self._outstanding -= 1
            if isinstance(data, Ended):
                self._active[worker_id] = False
                self._send_one()
            elif self._in_order and number != self._received:
                self._early[number] = data
            else:
                if number == self._received:
                    self._received += 1
                return self._hand_over(self._owner.pop(number), data)

    def _next_number(self) -> int | None:
        """The number that is due, or None at the end. Numbers of workers that have ended are passed over."""
        while self._received < self._sent:
            owner = self._owner.get(self._received)
            if owner is not None:
                if self._received in self._early or self._active[owner]:
                    return self._received
                del self._owner[self._received]
            self._received += 1
        return None

    def _take(self) -> tuple[int, int, Any]:
        results, clock = self._job.results, self._clock
        start = monotonic_ns()
        if clock.recorded:
            clock.in_starved.__enter__()
        try:
            while True:
                try:
                    epoch, number, worker_id, data = results.get(timeout=self._timeout or _STATUS_CHECK_S)
                except queue.Empty:
                    self._look_for_dead()
                    if self._timeout:
                        # What hangs now would hang the exit too: nobody waits for these workers again.
                        _live.discard(self)
                        raise RuntimeError(f"DataLoader timed out after {self._timeout} seconds") from None
                    continue
                if epoch == self._job.epoch:
                    break
        finally:
            if clock.recorded:
                clock.in_starved.__exit__(None, None, None)
            clock.starved_ns += monotonic_ns() - start
        clock.queue_depth_max = max(clock.queue_depth_max, results.qsize() + 1)
        if self._unrestored:
            self._restore_num_threads()
        return number, worker_id, data

    def _hand_over(self, worker_id: int, data: Any) -> T:
        self._load[worker_id] -= 1
        self._send_one()
        self._clock.batches += 1
        if hasattr(data, "reraise") and hasattr(data, "exc_type"):
            _reraise(data)
        batch: T = data
        return batch

    def _send_one(self) -> None:
        room = self._prefetch * len(self._workers)
        try:
            index = next(self._sampler)
        except StopIteration:
            return
        for _ in self._workers:
            worker_id = next(self._cycle)
            if self._active[worker_id] and (self._in_order or self._load[worker_id] < room // sum(self._active)):
                break
        else:
            return
        self._workers[worker_id].tasks.put(Task(self._job.epoch, self._sent, index))
        self._owner[self._sent] = worker_id
        self._load[worker_id] += 1
        self._outstanding += 1
        self._sent += 1
        self._clock.in_flight_max = max(self._clock.in_flight_max, self._outstanding)

    def _look_for_dead(self) -> None:
        for worker in self._workers:
            if worker.alive and not worker.thread.is_alive():
                self._bury(worker.id, Died(None))

    def _bury(self, worker_id: int, death: Died) -> None:
        worker = self._workers[worker_id]
        worker.alive = self._active[worker_id] = False
        # Its batches will not come: only the live workers' remain outstanding.
        self._outstanding -= sum(1 for n, owner in self._owner.items() if owner == worker_id and n not in self._early)
        cause = "" if death.failure is None else f"\nOriginal {death.failure.exc_msg}"
        raise RuntimeError(f"DataLoader worker (thread {worker.thread.name}) exited unexpectedly{cause}")

    def _restore_num_threads(self) -> None:
        # ATen keeps the last set_num_threads() for threads that start later, workers of ours or not
        # (aten/src/ATen/ParallelOpenMP.cpp, num_threads). The consumer's own number is per thread and unchanged.
        torch.set_num_threads(torch.get_num_threads())
        self._unrestored -= 1

    def _warn_of_length(self, length: int) -> None:
        warnings.warn(
            f"Length of IterableDataset {self._dataset} was reported to be {length}"
            f"(when accessing len(dataloader)), but {self._yielded} samples have been fetched. "
            "For multiprocessing data-loading, this could be caused by not properly configuring the "
            "IterableDataset replica at each worker. Please see "
            "https://pytorch.org/docs/stable/data.html#torch.utils.data.IterableDataset for examples.",
            stacklevel=3,
        )


def _reraise(failure: torch_seams.Failure) -> None:
    if not issubclass(failure.exc_type, Exception):
        # SystemExit or KeyboardInterrupt of a worker must not end the consumer as if it were its own.
        raise RuntimeError(f"Caught {failure.exc_type.__name__} {failure.where}.\nOriginal {failure.exc_msg}")
    failure.reraise()


_live: weakref.WeakSet[ThreadIterator[Any]] = weakref.WeakSet()
# Workers outlive an iterator that was dropped: they end when they have seen it.
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    # A daemon thread still inside C++ when the interpreter goes may abort the process (pthread_exit unwinds it).
    iterators = list(_live)
    for iterator in iterators:
        iterator._job.stopped = True
    deadline = time.monotonic() + _EXIT_S
    for iterator in iterators:
        iterator.shutdown(join_s=max(0.0, deadline - time.monotonic()))
    for thread in list(_threads):
        thread.join(max(0.0, deadline - time.monotonic()))
