"""Pictures in memory, decoded by one codec; each worker's copy has a decoder of its own."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from torch.utils.data import Dataset


class Pictures(Dataset[Any]):
    """`length` samples over `files`, by turns. A sample is a uint8 array of height x width x 3."""

    def __init__(self, files: list[bytes], length: int, codec: str) -> None:
        self.files = files
        self.length = length
        self.decode: Any = None
        self.codec = codec

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        if self.decode is None:
            self.decode = DECODERS[self.codec]()
        return self.decode(self.files[index % len(self.files)])


class Pillow:
    def __call__(self, file: bytes) -> Any:
        from PIL import Image

        # np.array copies: Pillow's own buffer is read-only, and torch warns of it.
        return np.array(Image.open(io.BytesIO(file)))


class NvImageCodec:
    """nvImageCodec on the CPU. One Decoder a worker: shared by threads, version 0.9.0 loses images."""

    def __init__(self) -> None:
        from nvidia import nvimgcodec  # type: ignore[import-untyped]

        self.decoder = nvimgcodec.Decoder(
            device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY,
            backends=[nvimgcodec.Backend(nvimgcodec.CPU_ONLY)],
            max_num_cpu_threads=1,
        )

    def __call__(self, file: bytes) -> Any:
        image = self.decoder.decode(file)
        if image is None:
            raise RuntimeError("nvImageCodec gave no image")
        return np.array(image)


DECODERS: dict[str, Any] = {"pillow": Pillow, "nvimagecodec": NvImageCodec}


def pixels_differ(files: list[bytes], codec: str) -> int:
    """The largest difference from Pillow's pixels over the first eight pictures (0: identical)."""
    reference, decode = Pillow(), DECODERS[codec]()
    return max(
        int(np.abs(reference(file).astype(np.int16) - decode(file).astype(np.int16)).max()) for file in files[:8]
    )
