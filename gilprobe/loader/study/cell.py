"""The measuring process: one a build, method and codec. Reads cells as JSON lines, answers with what it measured.

Run as `python -m gilprobe.loader.study.cell`.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, default_collate

from gilprobe.loader import ThreadDataLoader
from gilprobe.loader.study.counters import counters, memory_mb
from gilprobe.loader.study.dataset import Pictures, pixels_differ


def discard(samples: list[Any]) -> int:
    return len(samples)


def collate_and_discard(samples: list[Any]) -> int:
    return int(default_collate(samples).shape[0])


COLLATE: dict[str, Any] = {"decode": discard, "collate": collate_and_discard, "hand over": None}


def main() -> None:
    torch.set_num_threads(1)
    # The answers go to the real stdout; codecs print on it too.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    gil = getattr(sys, "_is_gil_enabled", lambda: True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _measure(request["cell"], Path(request["pictures"]), request["warm_up"], request["epochs"])
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answer["gil_enabled"] = gil()
        print(json.dumps(answer), file=answers, flush=True)


def _measure(cell: dict[str, Any], path: Path, warm_up: int, epochs: int) -> dict[str, Any]:
    files = pickle.loads(path.read_bytes())
    dataset = Pictures(files, cell["images"], cell["codec"])
    start = time.monotonic()
    loader = loader_of(cell, dataset)
    constructed = time.monotonic()
    iterator = iter(loader)
    next(iterator)
    first = time.monotonic()
    for _ in iterator:
        pass
    for _ in range(warm_up - 1):
        _epoch(loader)
    pids = _pids(loader)
    before = counters(pids)
    stats_before = loader.stats() if isinstance(loader, ThreadDataLoader) else None
    walls = [_epoch(loader) for _ in range(epochs)]
    spent = counters(pids).since(before)
    pss_mb, rss_mb = memory_mb(pids)
    images = cell["images"] * epochs
    answer: dict[str, Any] = {
        "construction_s": constructed - start,
        "first_batch_s": first - constructed,
        "images_per_s": [cell["images"] / wall for wall in walls],
        "cpu_ms_per_image": spent["cpu_s"] * 1e3 / images,
        "page_faults_per_image": spent["page_faults"] / images,
        "voluntary_switches_per_image": spent["voluntary_switches"] / images,
        "involuntary_switches_per_image": spent["involuntary_switches"] / images,
        "pss_mb": pss_mb,
        "rss_mb": rss_mb,
    }
    if isinstance(loader, ThreadDataLoader) and stats_before is not None:
        after = loader.stats()
        for name in ("index_wait_s", "dataset_s", "collate_s", "output_wait_s"):
            total = sum(getattr(w, name) for w in after.workers) - sum(getattr(w, name) for w in stats_before.workers)
            answer[name.replace("_s", "_ms_per_image")] = total * 1e3 / images
        answer["starved_ms_per_image"] = (after.starved_s - stats_before.starved_s) * 1e3 / images
    del iterator, loader
    # Last: a decoder made before would be inherited by forked workers.
    if cell.get("check_pixels"):
        answer["pixels_differ"] = pixels_differ(files, cell["codec"])
    return answer


def loader_of(cell: dict[str, Any], dataset: Pictures) -> DataLoader[Any]:
    options: dict[str, Any] = {
        "batch_size": cell["batch"],
        "num_workers": cell["workers"],
        "collate_fn": COLLATE[cell["step"]],
        "persistent_workers": True,
    }
    if cell["method"] == "threads":
        return ThreadDataLoader(dataset, **options)
    return DataLoader(dataset, multiprocessing_context=cell["method"], **options)


def _epoch(loader: DataLoader[Any]) -> float:
    start = time.monotonic()
    for _ in loader:
        pass
    return time.monotonic() - start


def _pids(loader: DataLoader[Any]) -> list[int]:
    if isinstance(loader, ThreadDataLoader):
        return [os.getpid()]
    return [os.getpid(), *(worker.pid for worker in loader._iterator._workers)]  # type: ignore[union-attr]


if __name__ == "__main__":
    import warnings

    warnings.filterwarnings("ignore", "This DataLoader will create")
    main()
