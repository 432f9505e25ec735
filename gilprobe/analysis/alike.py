"""CPU samples that say the same, counted together: there can be millions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gilprobe.recording.schema import SampleFlag


def alike(samples: NDArray[Any]) -> Iterator[tuple[int, int, SampleFlag, int]]:
    """(thread's number in the file, stack id, flags, count)."""
    keys, counts = np.unique(
        samples["flags"].astype(np.uint64) << np.uint64(62)
        | samples["thread"].astype(np.uint64) << np.uint64(32)
        | samples["stack_id"],
        return_counts=True,
    )
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        yield key >> 32 & 0x3FFFFFFF, key & 0xFFFFFFFF, SampleFlag(key >> 62), count
