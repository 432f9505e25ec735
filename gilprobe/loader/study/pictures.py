"""JPEG pictures like photographs, without a download."""

from __future__ import annotations

import io
import pickle
import random
from pathlib import Path
from typing import Any

from gilprobe.errors import GilprobeError

_COUNT = {640: 96, 224: 256, 64: 256}


def pictures(folder: Path, size: tuple[int, int], seed: int = 1) -> Path:
    """A pickle of a list of JPEG files (bytes), made once: random crops, flips and resizes of sample photographs.

    Raises GilprobeError where neither scikit-image nor scikit-learn is there to crop from.
    """
    path = folder / f"pictures-{size[0]}x{size[1]}.pickle"
    if path.exists():
        return path
    from PIL import Image

    rng = random.Random(seed)
    photographs = [Image.fromarray(array) for array in _photographs()]
    files = []
    for _ in range(_COUNT.get(size[0], 96)):
        source = rng.choice(photographs)
        share = rng.uniform(0.6, 1.0)
        width = int(min(source.width, source.height * size[0] / size[1]) * share)
        height = int(width * size[1] / size[0])
        left, top = rng.randint(0, source.width - width), rng.randint(0, source.height - height)
        picture = source.crop((left, top, left + width, top + height)).resize(size)
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=rng.randint(80, 95), subsampling="4:2:0")
        files.append(file.getvalue())
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(files))
    return path


def _photographs() -> list[Any]:
    found: list[Any] = []
    try:
        import skimage.data

        data: Any = skimage.data

        found += [data.rocket(), data.coffee(), data.astronaut(), data.chelsea()]
    except ImportError:
        pass
    try:
        from sklearn.datasets import load_sample_images  # type: ignore[import-untyped]

        found += load_sample_images().images
    except ImportError:
        pass
    if not found:
        raise GilprobeError("there are no photographs to decode", "pip install scikit-image scikit-learn")
    return found
