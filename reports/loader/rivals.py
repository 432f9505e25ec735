"""Other loaders beside ours in one run: images a second and CPU seconds an image, the same dataset, interleaved.

`python -m reports.loader rivals`, with the interpreter that has them. A rival that is not there is named so. Each has
two workers, batches of 32 in order, default_collate and room for four batches. torchdata.nodes and SPDL come twice: a
sample a task, as their guides show it (the collating then has a thread of its own, beside the two workers), and a
batch a task, as torch's loader and ours do it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import os
import pickle
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, default_collate

from gilprobe.loader import ThreadDataLoader
from gilprobe.loader.study.counters import counters
from gilprobe.loader.study.dataset import Pictures
from gilprobe.loader.study.pictures import pictures

BATCH, IMAGES, WORKERS = 32, 32 * 24, 2

# One epoch: an iterable of batches. Made once; persistent where the loader can be.
Epoch = Callable[[], Iterable[Any]]


def ours(dataset: Pictures) -> Epoch:
    loader = ThreadDataLoader(dataset, batch_size=BATCH, num_workers=WORKERS, persistent_workers=True)
    return lambda: loader


def processes(dataset: Pictures) -> Epoch:
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_size=BATCH, num_workers=WORKERS, persistent_workers=True, multiprocessing_context="fork"
    )
    return lambda: loader


def torchdata_nodes(dataset: Pictures) -> Epoch:
    from torchdata.nodes import Batcher, Loader, Mapper, ParallelMapper, SamplerWrapper

    node = SamplerWrapper(torch.utils.data.SequentialSampler(dataset))
    node = ParallelMapper(node, map_fn=dataset.__getitem__, num_workers=WORKERS, method="thread")
    loader = Loader(Mapper(Batcher(node, BATCH), default_collate))
    return lambda: loader


def torchdata_batches(dataset: Pictures) -> Epoch:
    from torchdata.nodes import Batcher, Loader, ParallelMapper, SamplerWrapper

    node = Batcher(SamplerWrapper(torch.utils.data.SequentialSampler(dataset)), BATCH)
    loader = Loader(ParallelMapper(node, _whole_batch(dataset), num_workers=WORKERS, method="thread"))
    return lambda: loader


def spdl(dataset: Pictures) -> Epoch:
    from spdl.pipeline import PipelineBuilder

    def epoch() -> Iterator[Any]:
        pipeline = (
            PipelineBuilder()
            .add_source(range(len(dataset)))
            .pipe(dataset.__getitem__, concurrency=WORKERS, output_order="input")
            .aggregate(BATCH)
            .pipe(default_collate)
            .add_sink(2 * WORKERS)
            .build(num_threads=WORKERS + 1)
        )
        with pipeline.auto_stop():
            yield from pipeline

    return epoch


def spdl_batches(dataset: Pictures) -> Epoch:
    from spdl.pipeline import PipelineBuilder

    def epoch() -> Iterator[Any]:
        pipeline = (
            PipelineBuilder()
            .add_source(range(begin, begin + BATCH) for begin in range(0, len(dataset), BATCH))
            .pipe(_whole_batch(dataset), concurrency=WORKERS, output_order="input")
            .add_sink(2 * WORKERS)
            .build(num_threads=WORKERS)
        )
        with pipeline.auto_stop():
            yield from pipeline

    return epoch


def _whole_batch(dataset: Pictures) -> Callable[[Iterable[int]], Any]:
    return lambda indices: default_collate([dataset[index] for index in indices])


def monai(dataset: Pictures) -> Epoch:
    from monai.data import ThreadDataLoader as MonaiLoader

    # As its documentation has it: threads inside torch's loader, and one that fetches ahead.
    loader = MonaiLoader(dataset, batch_size=BATCH, num_workers=WORKERS, use_thread_workers=True, buffer_size=2)
    return lambda: loader


RIVALS: dict[str, tuple[str, Callable[[Pictures], Epoch]]] = {
    "torch, processes (fork)": ("torch", processes),
    "torchdata.nodes, thread": ("torchdata", torchdata_nodes),
    "torchdata.nodes, thread, a batch a task": ("torchdata", torchdata_batches),
    "SPDL": ("spdl", spdl),
    "SPDL, a batch a task": ("spdl", spdl_batches),
    "MONAI ThreadDataLoader": ("monai", monai),
}


def measure(work: Path, pairs: int, name: str) -> dict[str, Any]:
    """Images a second and CPU seconds an image, ours over theirs, each pair back to back with either first.

    All in one process: what ours asks of glibc (gilprobe/loader/freed_memory.py) serves the rival's threads as well.
    Speeds hold on a quiet machine, or `--ahead` of other programs. Beside them the kernel decides: the more threads a
    loader has, and the more often they sleep, the larger is its part of the cores, whatever it costs.
    """
    torch.set_num_threads(1)
    files = pickle.loads(pictures(work, (640, 408)).read_bytes())
    package, make = RIVALS[name]
    try:
        theirs = make(Pictures(files, IMAGES, "pillow"))
        _epoch(theirs)
    except ImportError as error:
        return {"ran": False, "why": f"not installed: {error}"}
    except Exception as error:
        return {"ran": False, "why": f"{type(error).__name__}: {error}"}
    mine = ours(Pictures(files, IMAGES, "pillow"))
    _epoch(mine)
    found = {"ran": True, "version": _version(package), **_compare(mine, theirs, pairs)}
    del mine, theirs
    gc.collect()
    return found


def _compare(mine: Epoch, theirs: Epoch, pairs: int) -> dict[str, Any]:
    rows: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    for number in range(pairs):
        order = [("ours", mine), ("theirs", theirs)]
        for who, epoch in order if number % 2 == 0 else order[::-1]:
            rows[who].append(_epoch(epoch))
    answer: dict[str, Any] = {"pairs": pairs}
    for who, values in rows.items():
        answer[f"{who}_images_per_s"] = statistics.median(speed for speed, _ in values)
        answer[f"{who}_cpu_ms_per_image"] = statistics.median(cpu for _, cpu in values)
    answer["speed"] = _ratio([a[0] / b[0] for a, b in zip(rows["ours"], rows["theirs"], strict=True)], higher=True)
    answer["cpu"] = _ratio([a[1] / b[1] for a, b in zip(rows["ours"], rows["theirs"], strict=True)], higher=False)
    return answer


def _ratio(values: list[float], *, higher: bool) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    medians = np.median(rng.choice(values, (2000, len(values))), axis=1)
    low, high = (float(bound) for bound in np.percentile(medians, [2.5, 97.5]))
    ahead, behind = (low > 1, high < 1) if higher else (high < 1, low > 1)
    outcome = "ahead" if ahead else "behind" if behind else "undecided"
    return {"median": statistics.median(values), "interval": [low, high], "outcome": outcome}


def _epoch(epoch: Epoch) -> tuple[float, float]:
    """(images a second, CPU milliseconds an image), of this process and its children. The batches are looked at."""
    before, start, images = _counted(), time.monotonic(), 0
    for batch in epoch():
        images += len(batch)
    wall = time.monotonic() - start
    if images != IMAGES:
        raise RuntimeError(f"{images} images of {IMAGES} came")
    return images / wall, (_counted() - before) * 1e3 / images


def _counted() -> float:
    # process_time holds threads that have ended, which /proc/self/task does not.
    times = os.times()
    return time.process_time() + counters(_children()).cpu_s + times.children_user + times.children_system


def _children() -> list[int]:
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends just now
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "?"
