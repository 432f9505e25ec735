"""What the workers share, and what they are told about it."""

from __future__ import annotations

import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the loader needs torch: install gilprobe[loader]")

from gilprobe.errors import GilprobeError  # noqa: E402
from gilprobe.loader import ThreadDataLoader  # noqa: E402
from gilprobe.loader.isolation import COPY_LIMIT_BYTES, Replicas  # noqa: E402


class Samples(torch.utils.data.Dataset):
    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        return index

    def setup(self, worker_id: int) -> None:
        self.worker_id = worker_id


def test_auto_copies_objects_and_shares_storage() -> None:
    dataset = Samples(table=torch.zeros(4), array=np.zeros(4), raw=b"x" * 4096, names=["a"], pick=lambda value: value)
    first, _ = Replicas(dataset, None, "auto").take()
    assert first is not dataset and first.names == ["a"] and first.names is not dataset.names
    dataset.table[0] = 7
    dataset.array[0] = 7
    assert first.table[0] == 7 and first.table is not dataset.table
    assert first.array[0] == 7 and first.array is not dataset.array
    assert first.raw is dataset.raw and first.pick is dataset.pick


def test_one_tensor_under_two_names_stays_one() -> None:
    table = torch.zeros(4)
    copied, _ = Replicas(Samples(left=table, right=table), None, "auto").take()
    assert copied.left is copied.right


def test_copy_leaves_no_storage_in_common() -> None:
    dataset = Samples(table=torch.zeros(4), array=np.zeros(4))
    copied, _ = Replicas(dataset, None, "copy").take()
    dataset.table[0] = dataset.array[0] = 7
    assert copied.table[0] == 0 and copied.array[0] == 0


def test_a_bound_init_function_meets_its_copy() -> None:
    dataset = Samples()
    copied, init_fn = Replicas(dataset, dataset.setup, "auto").take()
    assert init_fn is not None
    init_fn(3)
    assert copied.worker_id == 3 and not hasattr(dataset, "worker_id")


def test_what_cannot_be_copied_is_shared_and_named() -> None:
    dataset = Samples(steps={"crop": [Samples(guard=threading.Lock())]})
    with pytest.warns(UserWarning, match=r"dataset\.steps\['crop'\]\[0\]\.guard cannot be copied"):
        loader = ThreadDataLoader(dataset, num_workers=1)
        assert len(list(loader)) == 8
    assert loader.isolation.mode == "share" and "guard" in loader.isolation.reason
    with pytest.raises(GilprobeError, match="guard"):
        list(ThreadDataLoader(dataset, num_workers=1, isolate="copy"))


def test_over_the_limit_is_shared_and_named() -> None:
    dataset = Samples(small=[1], many=[f"{n:0200}" for n in range(COPY_LIMIT_BYTES // 190)])
    with pytest.warns(UserWarning, match=r"dataset\.many holds .* over the limit of 64 MB"):
        loader = ThreadDataLoader(dataset, num_workers=1)
        list(loader)
    assert loader.isolation.mode == "share"


def test_large_storage_is_under_the_limit() -> None:
    dataset = Samples(table=torch.zeros(COPY_LIMIT_BYTES // 2), raw=[bytes(1 << 20) for _ in range(70)])
    assert Replicas(dataset, None, "auto").isolation.mode == "copy"


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(GilprobeError, match="isolate='none'"):
        ThreadDataLoader(Samples(), isolate="none")  # type: ignore[arg-type]
