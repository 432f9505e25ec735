"""The loader's bars, each as a ratio of interleaved pairs with its bootstrap interval.

Run as `python -m reports.loader bars` with the interpreter to measure; it updates its build in summary.json.
A bar is met when the whole interval is on its good side, missed when none of it is, else undecided.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import platform
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from gilprobe.loader import ThreadDataLoader
from gilprobe.loader.stats import WorkerClock
from gilprobe.loader.study.counters import memory_mb
from gilprobe.loader.study.dataset import Pictures
from gilprobe.loader.study.pictures import pictures

PAIRS = 31
BATCH = 32
MEMORY_BYTES = 1 << 30
MEMORY_PAIRS = 3
SUMMARY = Path(__file__).with_name("summary.json")


class Identity(Dataset[Any]):
    """Small arrays that exist already: what is left is the loader."""

    def __init__(self, length: int) -> None:
        self.arrays = [np.arange(8) for _ in range(64)]
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.arrays[index % 64]


class InMemory(Dataset[Any]):
    """1 GB of distinct bytes objects of 64 KB."""

    def __init__(self, files: int) -> None:
        self.files = [os.urandom(16) * 4096 for _ in range(files)]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> int:
        return self.files[index][0]


def is_recent(entry: Any, resume: bool) -> bool:
    """Measured in the last twelve hours by a run that is gone on with."""
    return resume and isinstance(entry, dict) and time.time() - entry.get("at", 0) < 12 * 3600


def run(only: list[str] | None, work: Path, resume: bool = False, ahead: bool = False) -> None:
    torch.set_num_threads(1)
    name_of_build = build()
    summary: dict[str, Any] = json.loads(SUMMARY.read_text()) if SUMMARY.exists() else {"schema": 1, "builds": {}}
    entry = summary["builds"].setdefault(name_of_build, {})
    for name, measure in _bars(work, name_of_build).items():
        if (only and name not in only) or is_recent(entry.get(name), resume):
            continue
        start = time.time()
        entry[name] = {
            **measure(),
            "at": round(start),
            "took_s": round(time.time() - start),
            "cores": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 2),
            "ahead": ahead,
        }
        print(name_of_build, name, json.dumps(entry[name]), flush=True)
        SUMMARY.write_text(json.dumps(summary, indent=1) + "\n")


def _bars(work: Path, name_of_build: str) -> dict[str, Callable[[], dict[str, Any]]]:
    bars: dict[str, Callable[[], dict[str, Any]]] = {
        "instruments_us_per_batch": _instruments,
        "instruments_recorded_us_per_batch": _instruments_recorded,
        "first_batch_ms": lambda: _absolute([_first_batch("threads") * 1e3 for _ in range(PAIRS)], 20.0),
        "first_batch_over_fork": lambda: _pairs(lambda: _first_batch("threads"), lambda: _first_batch("fork"), 0.5),
    }
    for workers in (1, 2):
        bars[f"overhead_over_processes_{workers}"] = lambda workers=workers: _overhead(workers, "fork", 0.3)  # type: ignore[misc]
    bars["overhead_over_no_workers_1"] = lambda: _overhead(1, None, 1.5)
    bars["hand_over_us_per_batch"] = _hand_over
    if "free-threaded" in name_of_build:
        for codec in ("pillow", "nvimagecodec"):
            for held in HELD:
                name = f"two_workers_over_bare_threads_{codec}" + held
                bars[name] = lambda codec=codec, held=held: _bare_threads(codec, work, held)  # type: ignore[misc]
    bars["memory_over_fork"] = lambda: _memory("fork", 1.0)
    bars["memory_over_forkserver"] = lambda: _memory("forkserver", 0.4)
    return bars


def build() -> str:
    free_threaded = sysconfig.get_config_var("Py_GIL_DISABLED") == 1
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    kind = "gil" if not free_threaded else "free-threaded, gil=1" if gil else "free-threaded"
    return f"{platform.python_version()} {kind}"


def _loader(dataset: Dataset[Any], method: str | None, workers: int, **options: Any) -> DataLoader[Any]:
    if method == "threads":
        return ThreadDataLoader(dataset, num_workers=workers, **options)
    if method is None:
        options.pop("persistent_workers", None)
        return DataLoader(dataset, **options)
    return DataLoader(dataset, num_workers=workers, multiprocessing_context=method, **options)


def _pairs(
    ours: Callable[[], float], theirs: Callable[[], float], bar: float, *, at_least: bool = False
) -> dict[str, Any]:
    """ours / theirs, measured by turns, each first every other time."""
    ratios = []
    for number in range(PAIRS):
        if number % 2:
            other, own = theirs(), ours()
        else:
            own, other = ours(), theirs()
        ratios.append(own / other)
    return _absolute(ratios, bar, at_least=at_least)


def _absolute(values: list[float], bar: float, *, at_least: bool = False) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    medians = np.median(rng.choice(values, (2000, len(values))), axis=1)
    low, high = (float(bound) for bound in np.percentile(medians, [2.5, 97.5]))
    good, bad = (low >= bar, high < bar) if at_least else (high <= bar, low > bar)
    return {
        "median": statistics.median(values),
        "interval": [low, high],
        "range": [min(values), max(values)],
        "bar": bar,
        "bar_is": "at least" if at_least else "at most",
        "values": len(values),
        "outcome": "met" if good else "missed" if bad else "undecided",
    }


def _epoch(loader: DataLoader[Any], cpu: list[float] | None = None) -> float:
    """Seconds of wall time; this process's CPU seconds are added to `cpu`."""
    start, cpu_start = time.monotonic(), time.process_time()
    for _ in loader:
        pass
    if cpu is not None:
        cpu.append(time.process_time() - cpu_start)
    return time.monotonic() - start


def _overhead(workers: int, against: str | None, bar: float) -> dict[str, Any]:
    dataset = Identity(32 * 200)
    options = {"batch_size": 32, "persistent_workers": True}
    theirs = _loader(dataset, against, workers, **options)
    _epoch(theirs)
    ours = _loader(dataset, "threads", workers, **options)
    _epoch(ours)
    own_cpu: list[float] = []
    their_cpu: list[float] = []
    found = _pairs(lambda: _epoch(ours, own_cpu), lambda: _epoch(theirs, their_cpu), bar)
    if against is None:  # a process's workers are not in it
        found["by_cpu"] = _absolute([own / other for own, other in zip(own_cpu, their_cpu, strict=True)], bar)
    return found


def _hand_over() -> dict[str, Any]:
    """Microseconds a batch of one worker whose batches cost nothing: no samples to copy. No bar."""
    batches = 400
    cpu: list[float] = []
    loader = _loader(Identity(batches), "threads", 1, batch_size=1, collate_fn=_discard, persistent_workers=True)
    _epoch(loader)
    wall = [_epoch(loader, cpu) / batches * 1e6 for _ in range(PAIRS)]
    by_cpu = {**_absolute([seconds / batches * 1e6 for seconds in cpu], 0.0), "bar": None, "outcome": "no bar"}
    return {**_absolute(wall, 0.0), "bar": None, "outcome": "no bar", "by_cpu": by_cpu}


def _first_batch(method: str) -> float:
    gc.collect()
    dataset = Identity(3200)
    start = time.monotonic()
    iterator = iter(_loader(dataset, method, 2, batch_size=32))
    next(iterator)
    return time.monotonic() - start


def _instruments() -> dict[str, Any]:
    """CPU of the clocks' own statements for one batch (worker and consumer), replayed 10^5 times a value."""
    clock, now = WorkerClock(0), time.monotonic_ns
    recorded = clock.recorded
    count = 10_000 if recorded else 100_000

    def empty() -> None:
        for _ in range(count):
            pass

    def stamps() -> None:
        before = now()
        for _ in range(count):
            if recorded:
                clock.in_index_wait.__enter__()
            if recorded:
                clock.in_index_wait.__exit__(None, None, None)
            clock.index_wait_ns += now() - before
            before = now()
            start = now()
            if recorded:
                clock.in_dataset.__enter__()
            if recorded:
                clock.in_dataset.__exit__(None, None, None)
            middle = now()
            clock.dataset_ns += middle - start
            if recorded:
                clock.in_collate.__enter__()
            if recorded:
                clock.in_collate.__exit__(None, None, None)
            clock.collate_ns += now() - middle
            handed = now()
            if recorded:
                clock.in_output_wait.__enter__()
            if recorded:
                clock.in_output_wait.__exit__(None, None, None)
            before = now()
            clock.output_wait_ns += before - handed
            clock.batches += 1
            begin = now()
            if recorded:
                clock.in_index_wait.__enter__()
            if recorded:
                clock.in_index_wait.__exit__(None, None, None)
            clock.index_wait_ns += now() - begin
            clock.batches = max(clock.batches, 3 + 1)
            clock.batches = max(clock.batches, 3)
            clock.batches += 1

    def cpu_s(work: Callable[[], None]) -> float:
        start = time.thread_time()
        work()
        return time.thread_time() - start

    return _absolute([(cpu_s(stamps) - cpu_s(empty)) / count * 1e6 for _ in range(PAIRS)], 2.0)


def _discard(samples: list[Any]) -> int:
    return len(samples)


def _instruments_recorded() -> dict[str, Any]:
    """The same under gilprobe profile: what the recorder adds by its five spans. No bar: it is the recorder's cost."""
    code = "import json; from reports.loader.measure import _instruments; print(json.dumps(_instruments()))"
    with tempfile.TemporaryDirectory() as folder:
        command = ["gilprobe", "profile", "-q", "-o", f"{folder}/run.gilprobe", "--python", sys.executable, "-c", code]
        ran = subprocess.run([profiler(), "-m", *command], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return {**found, "bar": None, "outcome": "no bar"}


def profiler() -> str:
    """An interpreter that has gilprobe's own needs: this one, or the tree's."""
    here = Path(".venv/bin/python")
    return str(here) if here.exists() else sys.executable


# Pictures alive at once in each worker, and in each bare thread. The first is the issue's own words: the loop lets go
# of each picture, and the loader's collate of each batch.
HELD = {"": (BATCH, 1), "_holding_1": (1, 1), "_holding_32": (BATCH, BATCH)}


class Discards(Pictures):
    """Decodes and lets go at once."""

    def __getitem__(self, index: int) -> Any:
        super().__getitem__(index)
        return index


def _bare_threads(codec: str, work: Path, held: str) -> dict[str, Any]:
    """Images a second of two workers over the same decode loop in two bare threads. held: one of HELD.

    A batch of 32 is 25 MB: giving it back and taking it anew costs page faults that a loop letting go of each picture
    does not have. What the loader asks of glibc holds for the bare threads too, in the same process.
    """
    files = pickle.loads(pictures(work, (640, 408)).read_bytes())
    length = BATCH * 16
    ours, theirs = HELD[held]
    loader = ThreadDataLoader(
        (Discards if ours == 1 else Pictures)(files, length, codec),
        batch_size=BATCH,
        num_workers=2,
        collate_fn=_discard,
        persistent_workers=True,
    )
    datasets = [Pictures(files, length, codec) for _ in range(2)]

    def bare() -> float:
        def decode(dataset: Pictures, begin: int) -> None:
            for batch in range(begin, length, 2 * BATCH):
                if theirs > 1:
                    _discard([dataset[index] for index in range(batch, batch + BATCH)])
                else:
                    for index in range(batch, batch + BATCH):
                        dataset[index]

        threads = [threading.Thread(target=decode, args=(dataset, n * BATCH)) for n, dataset in enumerate(datasets)]
        start, cpu = time.monotonic(), time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bare_cpu.append(time.process_time() - cpu)
        return length / (time.monotonic() - start)

    def loaded() -> float:
        return length / _epoch(loader, own_cpu)

    own_cpu: list[float] = []
    bare_cpu: list[float] = []
    loaded()
    bare()
    found = _pairs(loaded, bare, 0.95, at_least=True)
    # What the cores did, whoever else ran: bare over ours, as the speeds' ratio is where the machine is quiet.
    found["by_cpu"] = _absolute([b / a for a, b in zip(own_cpu, bare_cpu, strict=True)], 0.95, at_least=True)
    return found


def _memory(against: str, bar: float) -> dict[str, Any]:
    """PSS of all processes with four workers on 1 GB in memory, warm after an epoch. Three pairs: it hardly varies.

    Each in a process of its own. Sending a dataset to a forkserver's workers pickles it four times, and 3.13t's
    allocator keeps most of that: 20 GB. The bar counts what remains without it: the main process as it was before
    (`conservative`), and the workers; `pss_mb` holds both.
    """
    seen = {method: [_pss_mb(method) for _ in range(MEMORY_PAIRS)] for method in ("threads", against)}
    pairs = zip(seen["threads"], seen[against], strict=True)
    ratios = [ours["whole"] / theirs["conservative"] for ours, theirs in pairs]
    medians = {
        method: {name: statistics.median(one[name] for one in found) for name in ("whole", "conservative")}
        for method, found in seen.items()
    }
    return {**_absolute(ratios, bar), "pss_mb": medians}


def _pss_mb(method: str) -> dict[str, float]:
    code = f"from reports.loader.measure import print_pss_mb; print_pss_mb({method!r})"
    # Freed memory goes back at once where the allocator is mimalloc (3.13t): 1 GB must not become 20.
    environment = {**os.environ, "MIMALLOC_PURGE_DELAY": "0"}
    with tempfile.TemporaryFile() as said:  # no pipe: where it is killed for want of memory, its workers keep that open
        subprocess.run([sys.executable, "-c", code], stdout=said, check=True, env=environment)
        said.seek(0)
        found: dict[str, float] = json.load(said)
    return found


def print_pss_mb(method: str) -> None:
    torch.set_num_threads(1)
    dataset = InMemory(MEMORY_BYTES >> 16)
    before, _ = memory_mb([os.getpid()])
    loader = _loader(dataset, method, 4, batch_size=256, persistent_workers=True)
    _epoch(loader)
    iterator: Any = loader._iterator
    workers = [] if method == "threads" else [worker.pid for worker in iterator._workers]
    if not all(Path(f"/proc/{pid}").exists() for pid in workers):
        raise RuntimeError("a worker has ended")
    whole, _ = memory_mb([os.getpid(), *workers])
    # Forked workers share the main process's pages, which then count a part for each: only the whole is right.
    least = min(whole, before + memory_mb(workers)[0]) if method == "forkserver" else whole
    print(json.dumps({"whole": whole, "conservative": least}))
