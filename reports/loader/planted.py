"""Datasets with a planted cause, each with its fixed twin: does the profile of the loader rank the cause first?

Run under gilprobe profile as `planted.py CAUSE planted|fixed`; `python -m reports.loader planted` runs them all.
"""

from __future__ import annotations

import ctypes
import importlib.util
import io
import sys
import threading
import warnings
import zlib
from typing import Any

import torch
from torch.utils.data import Dataset

from gilprobe.loader import ThreadDataLoader
from gilprobe.loader.study.dataset import NvImageCodec

WORKERS = 2
BATCHES, BATCH = 40, 4
LARGE_BYTES = 40 << 20  # over glibc's largest mmap threshold: each is mapped anew and faulted in anew


def spin(count: int) -> int:
    total = 0
    for number in range(count):
        total += number & 3
    return total


class Planted(Dataset[Any]):
    """One way or the other, the same work for each sample."""

    length = BATCHES * BATCH

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        return int(self.sample(index))

    def start(self, worker_id: int) -> None:
        """Called in each worker before its first sample."""

    def sample(self, index: int) -> Any:
        raise NotImplementedError


class SharedDict(Planted):
    """All workers count in one dict; fixed: each in its own."""

    def __init__(self, fixed: bool) -> None:
        self.counts: dict[int, int] = {}
        self.own = threading.local() if fixed else None

    def sample(self, index: int) -> int:
        counts = self.counts if self.own is None else self.own.__dict__
        for number in range(60_000):
            counts[number & 63] = number
        return index


class SharedLock(Planted):
    """Work under one lock; fixed: the work is done before it."""

    def __init__(self, fixed: bool) -> None:
        self.fixed = fixed
        self.lock = threading.Lock()
        self.data = bytes(range(256)) * 4096

    def sample(self, index: int) -> int:
        if self.fixed:
            checksum = zlib.adler32(self.data)
            for _ in range(15):
                checksum = zlib.adler32(self.data, checksum)
            with self.lock:
                return checksum
        with self.lock:
            checksum = 1
            for _ in range(16):
                checksum = zlib.adler32(self.data, checksum)
            return checksum


class Allocator(Planted):
    """Each sample in memory taken anew from the system; fixed: in one buffer a worker."""

    length = BATCHES

    def __init__(self, fixed: bool) -> None:
        self.own = threading.local() if fixed else None

    def start(self, worker_id: int) -> None:
        if self.own is not None:
            self.own.buffer = torch.zeros(LARGE_BYTES, dtype=torch.uint8)
            self.own.buffer.fill_(1)  # zeros alone may be the kernel's, not touched yet

    def sample(self, index: int) -> int:
        buffer = torch.empty(LARGE_BYTES, dtype=torch.uint8) if self.own is None else self.own.buffer
        return int(buffer.fill_(index & 255)[-1])


class HoldsGil(Planted):
    """A native call of 2 ms that keeps the GIL; fixed: it lets go of it."""

    def __init__(self, fixed: bool) -> None:
        self.fixed = fixed

    def sample(self, index: int) -> int:
        # Library objects cannot be copied to the workers, and are cheap.
        library = ctypes.CDLL(None) if self.fixed else ctypes.PyDLL(None)
        library.usleep(2000)
        return index


class SharedCodec(Planted):
    """One zlib compressor for all workers, which locks itself; fixed: one a worker."""

    def __init__(self, fixed: bool) -> None:
        self.own = threading.local() if fixed else None
        self.codec = zlib.compressobj(6)
        self.data = bytes((number * number >> 7) & 255 for number in range(1 << 18))

    def sample(self, index: int) -> int:
        codec: Any = self.codec
        if self.own is not None:
            codec = getattr(self.own, "codec", None) or zlib.compressobj(6)
            self.own.codec = codec
        # Long beside the kernel's slices: on crowded cores the workers would else run by turns and not meet.
        return sum(len(codec.compress(self.data)) for _ in range(4))


class SharedDecoder(Planted):
    """One nvImageCodec Decoder for all workers: images are lost, or the process. Fixed: one a worker."""

    def __init__(self, fixed: bool) -> None:
        from PIL import Image

        self.own = threading.local() if fixed else None
        self.decoder = None if fixed else NvImageCodec()
        written = io.BytesIO()
        Image.radial_gradient("L").convert("RGB").save(written, "jpeg")
        self.file = written.getvalue()

    def start(self, worker_id: int) -> None:
        if self.own is not None:
            self.own.decoder = NvImageCodec()

    def sample(self, index: int) -> int:
        decoder = self.decoder if self.own is None else self.own.decoder
        try:
            return int(decoder(self.file)[0, 0, 0])  # type: ignore[misc]
        except RuntimeError:
            return -1


CAUSES: dict[str, type[Any]] = {
    "shared-dict": SharedDict,
    "shared-lock": SharedLock,
    "allocator": Allocator,
    "holds-the-gil": HoldsGil,
    "shared-codec": SharedCodec,
    "shared-decoder": SharedDecoder,
}
# What the first cause in Profile.loader may be called: kind, and a word of its name.
EXPECTED: dict[str, tuple[tuple[str, ...], str]] = {
    "shared-dict": (("object", "atomic stall"), "counts"),
    "shared-lock": (("lock",), "self.lock"),
    "allocator": (("page faults",), ""),
    "holds-the-gil": (("gil",), ""),
    "shared-codec": (("lock",), "codec"),
    "shared-decoder": (("shared codec",), "dataset.decoder.decoder"),
}


def applies(cause: str, *, gil: bool) -> bool:
    """With the GIL threads do not contend for a dict; without it none is held."""
    if cause == "shared-decoder":
        return (
            importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.nvimgcodec") is not None
        )
    return {"shared-dict": not gil, "holds-the-gil": gil}.get(cause, True)


def main(cause: str, fixed: bool) -> None:
    warnings.simplefilter("ignore")
    dataset = CAUSES[cause](fixed)
    loader = ThreadDataLoader(
        dataset,
        batch_size=BATCH if dataset.length > BATCHES else 1,
        num_workers=WORKERS,
        isolate="share",
        worker_init_fn=dataset.start,
    )
    for _ in loader:
        pass


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "fixed")
