"""Stands in for nvImageCodec where there is no GPU: a batch is one made-up kernel of 1 ms on the fake driver.

FAKE_NVIMGCODEC: missing (it cannot be imported) or hangs (a batch never ends).
"""

from __future__ import annotations

import ctypes
import os
import time
from enum import Enum
from typing import Any

if os.environ.get("FAKE_NVIMGCODEC") == "missing":
    raise ImportError("libnvimgcodec.so.0: cannot open shared object file")
HYBRID_CPU_GPU, GPU_ONLY, HW_GPU_ONLY = range(3)
_driver = ctypes.CDLL("libcuda.so.1")
_driver.fake_launch.argtypes = [ctypes.c_uint64] * 2


class ImageBufferKind(Enum):
    STRIDED_DEVICE = 1


class Image:
    buffer_kind = ImageBufferKind.STRIDED_DEVICE


class Backend:
    def __init__(self, kind: int) -> None:
        if kind == HW_GPU_ONLY:
            raise RuntimeError("there is no hardware decoder")


class CodeStream:
    def __init__(self, file: bytes) -> None:
        self.file = file


class Decoder:
    def __init__(self, **options: Any) -> None: ...

    def decode(self, files: list[CodeStream], cuda_stream: int) -> list[Image]:
        assert cuda_stream and all(isinstance(file, CodeStream) for file in files)
        while os.environ.get("FAKE_NVIMGCODEC") == "hangs":
            time.sleep(1)
        _driver.fake_launch(time.monotonic_ns() + 1000, 1_000_000)
        time.sleep(0.001)
        return [Image() for _ in files]
