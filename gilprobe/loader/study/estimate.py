"""How long a study will take, before it starts."""

from __future__ import annotations

import io
import os
import pickle
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from gilprobe.loader.study.matrix import Cell

# To start a cell's workers, in seconds each on an idle machine; a forkserver's worker imports torch anew.
_START_S = {"threads": 0.01, "fork": 0.1, "forkserver": 3.0}
# The steps after decoding, as a share of it.
_STEPS_AFTER = {"decode": 0.0, "collate": 0.15, "hand over": 0.3}


def estimate_s(cells: Iterable[Cell], pictures: Mapping[tuple[int, int], Path], epochs: int) -> float:
    """Seconds for one visit to each cell with `epochs` epochs, warm-up included.

    From the time that Pillow takes here for a picture of each size. Right to a factor of about 1.5 where nothing else
    runs: nvImageCodec is faster, and what workers lose to each other is what the study is to find out.
    """
    decode_s: dict[tuple[int, int], float] = {}
    total_s = 0.0
    for cell in cells:
        if cell.size not in decode_s:
            decode_s[cell.size] = _decode_s(pictures[cell.size])
        at_once = min(cell.workers, os.cpu_count() or 1)
        image_s = decode_s[cell.size] * (1 + _STEPS_AFTER[cell.step])
        total_s += _START_S[cell.method] * cell.workers + epochs * cell.images * image_s / at_once
    return total_s


def _decode_s(pictures: Path) -> float:
    from PIL import Image

    files = pickle.loads(pictures.read_bytes())[:32]
    start = time.thread_time()
    for file in files:
        Image.open(io.BytesIO(file)).load()
    return (time.thread_time() - start) / len(files)


def in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
