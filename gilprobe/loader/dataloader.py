"""torch's DataLoader with threads for workers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from gilprobe.errors import GilprobeError, UsageError
from gilprobe.loader import collate, fault_cost, freed_memory, torch_seams, worker_info
from gilprobe.loader.codecs import CodecWatch
from gilprobe.loader.isolation import Isolation, Mode, Replicas, check_mode
from gilprobe.loader.iterator import ThreadIterator
from gilprobe.loader.stats import ConsumerClock, LoaderStats
from gilprobe.loader.worker import Job
from gilprobe.loader.writes import SharedWrite, WriteWatch

T_co = TypeVar("T_co", covariant=True)

worker_info.install()
collate.install()


class ThreadDataLoader(DataLoader[T_co]):
    """A drop-in for torch.utils.data.DataLoader whose workers are threads of this process.

    isolate: "auto" copies the dataset's Python objects for each worker and shares the storage of tensors, arrays,
    bytes and mmaps; what cannot be copied, or takes over 64 MB, is shared whole, with a warning. "copy" copies
    everything. "share" gives all workers the same dataset.

    debug_writes: with isolate="share", warns of objects of the dataset that two workers write, with both stacks.

    keep_freed_memory: asks glibc, for the whole process, to keep up to 64 MB of what each thread has freed, rather than
    to take every batch from the system anew. Its own variables (MALLOC_*, GLIBC_TUNABLES) come first.

    Workers seed no global generator: random numbers of a worker's own come from get_worker_info().rng.
    DataPipes and StatefulDataLoader are out of scope.

    Raises what torch raises, in its words.
    """

    def __init__(
        self,
        dataset: Dataset[T_co],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler[Any] | Iterable[Any] | None = None,
        batch_sampler: Sampler[list[Any]] | Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: torch.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        isolate: Mode = "auto",
        debug_writes: bool = False,
        keep_freed_memory: bool = True,
    ) -> None:
        self._isolate = check_mode(isolate)
        if debug_writes and isolate != "share":
            raise UsageError(
                f"debug_writes looks at shared datasets only, not at isolate={isolate!r}", "Add isolate='share'."
            )
        self._debug_writes = debug_writes
        self._keep_freed_memory = keep_freed_memory
        self._watch: WriteWatch | None = None
        self._isolation: Isolation | None = None
        self._clock: ConsumerClock | None = None
        self._thread_iterator: ThreadIterator[T_co] | None = None
        self.reported_length: int | None = None
        if num_workers > 0 and torch_seams.is_datapipe(dataset):
            raise GilprobeError(
                "ThreadDataLoader does not take DataPipes", "Use torch.utils.data.DataLoader, or a plain dataset."
            )
        super().__init__(
            dataset,
            batch_size,
            shuffle,
            sampler,
            batch_sampler,
            num_workers,
            collate_fn,
            pin_memory,
            drop_last,
            timeout,
            worker_init_fn,
            multiprocessing_context,
            generator,
            prefetch_factor=prefetch_factor,
            persistent_workers=persistent_workers,
            pin_memory_device=pin_memory_device,
            in_order=in_order,
        )

    @property
    def isolation(self) -> Isolation:
        """What the workers share, and why. Decided at the first iteration; asked before, it decides now."""
        if self._isolation is None:
            self._isolation = Replicas(self.dataset, self.worker_init_fn, self._isolate).isolation
        return self._isolation

    def stats(self) -> LoaderStats:
        """The latest iterator's figures, during and after its iteration."""
        if self._clock is None:
            raise GilprobeError(
                "the loader has no figures: no worker has run", "Use num_workers > 0 and begin to iterate first."
            )
        return self._clock.read()

    @property
    def shared_writes(self) -> tuple[SharedWrite, ...]:
        """What debug_writes found so far."""
        return self._watch.found if self._watch is not None else ()

    @property
    def unseen_writes(self) -> tuple[str, ...]:
        """Parts of the dataset whose writes debug_writes cannot see: tensors, arrays, and what else C code writes."""
        return tuple(self._watch.unseen) if self._watch is not None else ()

    def __len__(self) -> int:
        if isinstance(self.dataset, IterableDataset):
            self.reported_length = len(self.dataset)  # type: ignore[arg-type]
            if self.batch_size is None:
                return self.reported_length
            if self.drop_last:
                return self.reported_length // self.batch_size
            return -(-self.reported_length // self.batch_size)
        return super().__len__()

    def __iter__(self) -> Any:
        if self.num_workers == 0:
            if self.reported_length is not None:
                super().__len__()
            return super().__iter__()
        if not self.persistent_workers:
            return self._get_iterator()
        if self._thread_iterator is None or self._thread_iterator.is_the_parents:
            self._thread_iterator = self._get_iterator()
        else:
            self._thread_iterator.reset(self)
        return self._thread_iterator

    def _get_iterator(self) -> Any:
        if self.num_workers == 0:
            return super()._get_iterator()
        self.check_worker_number_rationality()
        accelerator = self._accelerator()
        # One draw an iterator, as torch does it, so that `generator` stays in step with torch's own loader.
        base_seed = int(torch.empty((), dtype=torch.int64).random_(generator=self.generator).item())
        if self._debug_writes and self._watch is None:
            self._watch = WriteWatch(self.dataset)
        replicas = Replicas(self.dataset, self.worker_init_fn, self._isolate)
        self._isolation = replicas.isolation
        job = Job(
            replicas=replicas,
            iterable=isinstance(self.dataset, IterableDataset),
            auto_collation=self.batch_sampler is not None,
            collate_fn=self.collate_fn,
            drop_last=self.drop_last,
            base_seed=base_seed,
            num_workers=self.num_workers,
            prefetch=self.prefetch_factor or 0,
            accelerator=accelerator,
            watch=self._watch,
            device_index=torch.accelerator.current_device_index() if accelerator else None,
        )
        if self.num_workers > 1:
            job.codecs = CodecWatch(self.collate_fn, own_attributes=replicas.isolation.mode == "copy")
            job.codecs.look(self.dataset)
        if self._keep_freed_memory:
            freed_memory.keep_once()
        fault_cost.measure_once()
        self._clock = ConsumerClock(self.num_workers)
        return ThreadIterator(self, job, self._clock)

    def _accelerator(self) -> str | None:
        """The device to pin for, with torch's warnings where there is none."""
        if not self.pin_memory:
            return None
        if self.pin_memory_device:
            warnings.warn(
                "pin_memory_device is deprecated, the current accelerator will be used as the device,"
                f"ignore pin_memory_device='{self.pin_memory_device}'.",
                stacklevel=4,
            )
        if not torch.accelerator.is_available():
            warnings.warn(
                "'pin_memory' argument is set as true but no accelerator is found, "
                "then device pinned memory won't be used.",
                stacklevel=4,
            )
            return None
        device = torch.accelerator.current_accelerator()
        if device is not None and device.type == "mps":
            warnings.warn(
                "'pin_memory' argument is set as true but not supported on MPS now, "
                "device pinned memory won't be used.",
                stacklevel=4,
            )
            return None
        return device.type if device is not None else None
