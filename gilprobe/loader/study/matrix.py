"""Which loaders are measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Method = Literal["threads", "fork", "forkserver"]
Codec = Literal["pillow", "nvimagecodec"]
Step = Literal["decode", "collate", "hand over"]

METHODS: tuple[Method, ...] = ("threads", "fork", "forkserver")
CODECS: tuple[Codec, ...] = ("pillow", "nvimagecodec")
STEPS: tuple[Step, ...] = ("decode", "collate", "hand over")
SIZES = ((640, 408), (224, 224), (64, 64))


@dataclass(frozen=True)
class Build:
    """An interpreter and how its GIL is set: `gil`, `free-threaded`, or `free-threaded, gil=1`."""

    python: str
    version: str
    gil: str

    @property
    def label(self) -> str:
        return f"{self.version} {self.gil}"

    @property
    def command(self) -> list[str]:
        gil_on = self.gil.endswith("gil=1")
        return [self.python, *(["-X", "gil=1"] if gil_on else ["-X", "gil=0"] if self.gil == "free-threaded" else [])]


@dataclass(frozen=True)
class Cell:
    """One loader. size is (width, height) in pixels; images is the length of an epoch."""

    build: str
    method: Method
    codec: Codec
    workers: int
    batch: int
    size: tuple[int, int]
    step: Step
    images: int

    @property
    def key(self) -> str:
        width, height = self.size
        return f"{self.build}|{self.method}|{self.codec}|{self.workers}|{self.batch}|{width}x{height}|{self.step}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


Scope = Literal["quick", "standard", "whole"]

# Shorter epochs measure the hand-over at their ends more than the work between.
BATCHES_A_WORKER = 20
# Of 512 pictures each, as in the original experiment; they take many times as long.
LARGE_BATCH = 512
LARGE_BATCHES_A_WORKER = 4


def cells(builds: Sequence[Build], workers: Sequence[int], scope: Scope) -> list[Cell]:
    """`whole` is every combination (hours); `standard` fits twenty minutes on two cores, `quick` two."""
    found: list[Cell] = []
    for build in builds:
        for codec in CODECS:
            for method in METHODS:
                for count, batch, size, step in _shapes(workers, scope):
                    images = batch * batches_a_worker(batch) * count
                    cell = Cell(build.label, method, codec, count, batch, size, step, images)
                    if scope == "whole" or _belongs(scope, cell, middle(workers)):
                        found.append(cell)
    return found


def batches_a_worker(batch: int) -> int:
    return BATCHES_A_WORKER if batch <= 64 else LARGE_BATCHES_A_WORKER


def middle(workers: Sequence[int]) -> int:
    """The worker count that is compared in depth."""
    return 2 if 2 in workers else workers[0]


def _shapes(workers: Sequence[int], scope: Scope) -> Iterator[tuple[int, int, tuple[int, int], Step]]:
    for batch in (32,) if scope == "quick" else (32, LARGE_BATCH):
        for size in SIZES:
            for count in workers:
                for step in STEPS:
                    yield count, batch, size, step


def _belongs(scope: Scope, cell: Cell, compared: int) -> bool:
    last, largest = cell.step == STEPS[-1], cell.size == SIZES[0]
    gil_on, forkserver = cell.build.endswith("gil=1"), cell.method == "forkserver"
    if cell.batch == LARGE_BATCH:
        return not forkserver and last and largest and cell.workers == compared
    if scope == "quick":
        return not forkserver and not gil_on and last and cell.workers == compared and cell.size != SIZES[1]
    if forkserver or gil_on:
        # A forkserver's worker imports torch anew: seconds for each cell.
        return last and cell.workers == compared and largest and not (forkserver and gil_on)
    return (last and (largest or cell.workers == compared)) or (largest and cell.workers == compared)
