"""The names of torch that are not public, each with what stands in for it when it goes.

tests/unit/loader/test_torch_seams.py tells when one has gone.
"""

from __future__ import annotations

import random
import sys
import traceback
from dataclasses import dataclass
from typing import Any, Protocol

import torch


class Failure(Protocol):
    """An exception on its way from a worker to the consumer."""

    exc_type: type[BaseException]
    exc_msg: str
    where: str

    def reraise(self) -> None: ...


class PlainFailure:
    """Stands in for torch._utils.ExceptionWrapper: same words, same rules for what cannot be rebuilt."""

    def __init__(self, *, where: str) -> None:
        kind, value, trace = sys.exc_info()
        assert kind is not None
        self.exc_type = kind
        self.exc_msg = "".join(traceback.format_exception(kind, value, trace))
        self.where = where

    def reraise(self) -> None:
        text = f"Caught {self.exc_type.__name__} {self.where}.\nOriginal {self.exc_msg}"
        try:
            rebuilt = self.exc_type(text)
        except Exception:
            raise RuntimeError(text) from None
        raise rebuilt


@dataclass(frozen=True)
class PlainWorkerInfo:
    """Stands in for torch's WorkerInfo where that has no `rng` and `worker_method` yet."""

    id: int
    num_workers: int
    seed: int
    dataset: Any
    rng: Any = None
    worker_method: str | None = "thread"


@dataclass(frozen=True)
class PlainRng:
    random_generator: random.Random
    torch_generator: torch.Generator
    numpy_generator: Any = None


def failure(where: str) -> Failure:
    """Wraps the exception being handled."""
    wrapper = getattr(getattr(torch, "_utils", None), "ExceptionWrapper", PlainFailure)
    wrapped: Failure = wrapper(where=where)
    return wrapped


def worker_info(worker_id: int, num_workers: int, base_seed: int, dataset: Any) -> Any:
    """What get_worker_info() answers in a worker, with generators of its own: nothing global is seeded."""
    module = _worker_module()
    seed = base_seed + worker_id
    generator = torch.Generator()
    generator.manual_seed(seed)
    numpy_generator = None
    derive = getattr(module, "_generate_state", None)
    try:
        import numpy
    except ModuleNotFoundError:
        pass
    else:
        state = derive(base_seed, worker_id) if derive is not None else [base_seed, worker_id]
        numpy_generator = numpy.random.default_rng(state)
    rng = getattr(module, "_RNG", PlainRng)(random.Random(seed), generator, numpy_generator)
    make = getattr(module, "WorkerInfo", PlainWorkerInfo)
    try:
        return make(id=worker_id, num_workers=num_workers, seed=seed, dataset=dataset, rng=rng, worker_method="thread")
    except TypeError:
        return PlainWorkerInfo(worker_id, num_workers, seed, dataset, rng)


def pin(data: Any, accelerator: str) -> Any:
    """`data` in page-locked memory, as torch's pin thread does it."""
    pin_memory = getattr(getattr(torch.utils.data, "_utils", None), "pin_memory", None)
    if pin_memory is not None:
        return pin_memory.pin_memory(data, accelerator)
    return data.pin_memory() if hasattr(data, "pin_memory") else data


def is_datapipe(dataset: Any) -> bool:
    kinds = tuple(
        kind for name in ("IterDataPipe", "MapDataPipe") if (kind := getattr(torch.utils.data, name, None)) is not None
    )
    return isinstance(dataset, kinds)


def log_range(name: str) -> Any:
    """The range that torch.profiler shows around each batch of its own loader.

    record_function goes through torch's dispatcher, also where nobody profiles: the cheaper one then still serves
    observers that are no profiler.
    """
    enabled = getattr(torch.autograd, "_profiler_enabled", None)
    if enabled is not None and not enabled():
        light = getattr(getattr(torch._C, "_profiler", None), "_RecordFunctionFast", None)
        if light is not None:
            return light(name)
    return torch.autograd.profiler.record_function(name)


def _worker_module() -> Any:
    return getattr(getattr(torch.utils.data, "_utils", None), "worker", None)
