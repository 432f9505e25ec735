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


def cells(builds: Sequence[Build], workers: Sequence[int], *, quick: bool) -> list[Cell]:
    """The matrix. `quick` leaves out what takes longest: batch 512, most of forkserver, most of the small sizes."""
    found: list[Cell] = []
    for build in builds:
        for codec in CODECS:
            for method in METHODS:
                for count, batch, size, step in _shapes(workers, quick):
                    if not quick or _is_quick(build, method, count, size, step, middle=_middle(workers)):
                        images = _images(size, batch, quick)
                        found.append(Cell(build.label, method, codec, count, batch, size, step, images))
    return found


def _middle(workers: Sequence[int]) -> int:
    return 2 if 2 in workers else workers[0]


def _shapes(workers: Sequence[int], quick: bool) -> Iterator[tuple[int, int, tuple[int, int], Step]]:
    for batch in (32,) if quick else (32, 512):
        for size in SIZES:
            for count in workers:
                for step in STEPS:
                    yield count, batch, size, step


def _is_quick(build: Build, method: Method, count: int, size: tuple[int, int], step: Step, *, middle: int) -> bool:
    whole = step == "hand over"
    if method == "forkserver":
        # A forkserver's worker imports torch anew: seconds for each cell.
        return whole and count == middle and size == SIZES[0] and not build.gil.endswith("gil=1")
    if build.gil.endswith("gil=1"):
        return count == middle and size == SIZES[0] and step != "collate"
    return (whole and (size == SIZES[0] or count == middle)) or (size == SIZES[0] and count == middle)


def _images(size: tuple[int, int], batch: int, quick: bool) -> int:
    """Images an epoch: eight batches at least, so that four workers have like shares, and about half a second."""
    width, height = size
    wanted = max(256, min(2048, 50_000_000 // (width * height))) * (1 if quick else 4)
    batches = max(8, wanted // batch)
    return batches * batch
