"""What a worker makes of arrays is what default_collate makes of them, with the same warnings and errors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch", reason="the loader needs torch: install gilprobe[loader]")

import numpy as np
import torch
from torch.utils.data import default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

from gilprobe.loader import collate
from gilprobe.loader.worker_info import set_worker_info


def arrays(dtype: str = "i4", shape: tuple[int, ...] = (2, 3), count: int = 3) -> list[Any]:
    return [(np.arange(np.prod(shape)) + number).astype(dtype).reshape(shape) for number in range(count)]


class Kind(np.ndarray[Any, Any]):
    pass


READ_ONLY = arrays()
for one in READ_ONLY:
    one.flags.writeable = False

BATCHES = {
    **{f"dtype_{dtype.str}": arrays(dtype.str) for dtype in collate.DTYPES},
    "one": arrays(count=1),
    "no_dimension": [np.array(number) for number in range(3)],
    "empty": arrays(shape=(0, 3)),
    "in_a_dict": [{"x": array, "y": number} for number, array in enumerate(arrays())],
    "in_a_tuple": [(array, "name") for array in arrays()],
    "shape_differs": [*arrays(), *arrays(shape=(3, 2))],
    "first_axis_differs": [*arrays(shape=(1, 3)), *arrays(shape=(3, 3))],
    "dtype_differs": [*arrays("i4"), *arrays("f8")],
    "one_is_a_list": [*arrays(), [[1, 2, 3], [4, 5, 6]]],
    "subclass": [array.view(Kind) for array in arrays()],
    "transposed": [array.T for array in arrays()],
    "every_other": [array[:, ::2] for array in arrays()],
    "negative_stride": [array[::-1] for array in arrays()],
    "stride_of_no_item": [np.zeros(4, [("a", "u1"), ("b", "i4")])["b"] for _ in range(2)],
    "byte_order": arrays(">i4"),
    "unsigned": arrays("u2"),
    "complex": arrays("c8"),
    "texts": [np.array(["a", "b"])] * 2,
    "objects": [np.array([None, 1])] * 2,
    "dates": [np.array(["2026-01-01"], "M8[D]")] * 2,
}


@pytest.fixture
def in_a_worker() -> Iterator[None]:
    set_worker_info(object())
    yield
    set_worker_info(None)


def outcome(batch: list[Any]) -> Any:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            found = default_collate(batch)
        except Exception as error:
            return type(error), str(error)
    return found, [str(warning.message) for warning in told]


@pytest.mark.parametrize("name", BATCHES)
def test_batch_is_torchs(name: str, in_a_worker: None) -> None:
    own = outcome(BATCHES[name])
    set_worker_info(None)
    torchs = outcome(BATCHES[name])
    assert repr(own) == repr(torchs)
    if isinstance(torchs[0], torch.Tensor):
        assert own[0].dtype == torchs[0].dtype
        assert own[0].stride() == torchs[0].stride()
        assert own[0].untyped_storage().resizable()


def test_batch_is_a_copy(in_a_worker: None) -> None:
    batch = arrays()
    default_collate(batch)[0, 0, 0] = 99
    assert batch[0][0, 0] == 0


def test_arrays_that_cannot_be_written_to_go_to_torch(in_a_worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It warns of them, once a process."""
    seen: list[Any] = []
    monkeypatch.setattr(collate, "_original_arrays", lambda batch, collate_fn_map: seen.append(batch))
    default_collate(READ_ONLY)
    default_collate([*arrays(), READ_ONLY[0]])
    default_collate(arrays())
    assert len(seen) == 2


def test_tensors_collated_by_the_users_own_function_go_there(
    in_a_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(default_collate_fn_map, torch.Tensor, lambda batch, collate_fn_map: "the user's")
    assert default_collate(arrays()) == "the user's"
    assert not collate.is_default()
