"""A batch filled sample by sample is what default_collate makes of all samples, and its memory is used again."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import pytest

pytest.importorskip("torch", reason="the loader needs torch: install gilprobe[loader]")

import numpy as np
import torch
from torch.utils.data import DataLoader, default_collate

from gilprobe.loader import ThreadDataLoader
from gilprobe.loader.rows import LEAST_SAMPLE_BYTES, Pool, begin

LARGE = LEAST_SAMPLE_BYTES


class Samples:
    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


def filled(seed: int, dtype: str = "u1", shape: tuple[int, ...] = (LARGE,)) -> Any:
    return np.random.default_rng(seed).integers(0, 2, shape).astype(dtype)


ALIKE = {
    "arrays": [filled(seed) for seed in range(4)],
    "floats": [filled(seed, "f4", (3, 200, 200)) for seed in range(4)],
    "tensors": [torch.from_numpy(filled(seed, "i8")) for seed in range(4)],
    "transposed_tensors": [torch.from_numpy(filled(seed, "u1", (256, 300))).t() for seed in range(4)],
    "labelled": [(filled(seed), seed, "name") for seed in range(4)],
    "uneven_last_batch": [filled(seed) for seed in range(5)],
}
OTHERS = {
    "small": [filled(seed, shape=(4,)) for seed in range(4)],
    "dicts": [{"image": filled(seed)} for seed in range(4)],
    "lists": [[filled(seed)] for seed in range(4)],
    "bfloat16": [torch.ones(LARGE, dtype=torch.bfloat16) for _ in range(4)],
    "gradients": [torch.ones(LARGE, requires_grad=True) for _ in range(4)],
    "shape_differs": [filled(0), filled(1), filled(2, shape=(LARGE + 1,)), filled(3)],
    "type_differs": [filled(0), torch.from_numpy(filled(1)), filled(2), filled(3)],
    "dtype_differs": [filled(0), filled(1, "f4"), filled(2), filled(3)],
    "tuple_length_differs": [(filled(0), 1), (filled(1),), (filled(2), 3), (filled(3), 4)],
    "negative_stride": [filled(seed)[::-1] for seed in range(4)],
    "byte_order": [filled(seed, ">i4") for seed in range(4)],
}


def outcome(loader: Any) -> list[Any]:
    found: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batches = iter(loader)
        while True:
            try:
                found.append(next(batches))
            except StopIteration:
                return found
            except Exception as error:
                found.append(
                    (
                        type(error),
                        str(error)
                        .rpartition("Original Traceback")[2]
                        .strip()
                        .splitlines()[-1]
                        .removeprefix(f"{type(error).__name__}: "),
                    )
                )


@pytest.mark.parametrize("name", [*ALIKE, *OTHERS])
def test_batches_and_errors_are_those_of_torch(name: str) -> None:
    dataset: Any = Samples((ALIKE | OTHERS)[name])
    ours = outcome(ThreadDataLoader(dataset, 2, num_workers=2, isolate="share"))
    theirs = outcome(DataLoader(dataset, 2))
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert type(mine) is type(other)
        if isinstance(mine, torch.Tensor):
            assert mine.dtype == other.dtype and torch.equal(mine, other) and mine.requires_grad == other.requires_grad
        elif isinstance(mine, tuple):
            assert mine == other
        elif isinstance(mine, list):
            assert torch.equal(mine[0], other[0]) and len(mine) == len(other)


@pytest.mark.parametrize("name", ALIKE)
def test_large_samples_are_filled_in_as_they_come(name: str) -> None:
    first = ALIKE[name][0]
    assert begin(first, 4, default_collate, Pool(2)) is not None
    assert begin(first, 4, list, Pool(2)) is None


def test_memory_is_used_again_once_nothing_looks_at_it() -> None:
    pool = Pool(2)

    def batch() -> Any:
        rows = begin(filled(0), 4, default_collate, pool)
        assert rows is not None and rows.add(filled(1))
        return rows.batch()

    kept = batch()
    view, where = kept[0], kept.data_ptr()
    del kept
    gc.collect()
    assert where % 64 == 0 and batch().data_ptr() != where, "a view of it lives"
    assert torch.equal(view, torch.from_numpy(filled(1)))
    del view
    gc.collect()
    both = batch(), batch()
    assert where in {one.data_ptr() for one in both}
