"""torch's default_collate made to know threads, in workers only.

default_collate_fn_map is the documented place to change it (torch/utils/data/_utils/collate.py).
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import numpy as np
import torch
import torch.utils.data

from gilprobe.loader.worker_info import current_info, set_worker_info

# Where default_collate does no more than copy: not objects, texts and dates, and not what torch refuses.
DTYPES = {
    np.dtype(name): torch.from_numpy(np.empty(0, name)).dtype
    for name in ("?", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8")
}
# Equal strides and shapes are contiguous alike.
_layout = attrgetter("dtype", "shape", "strides", "flags.writeable")


def _table() -> dict[Any, Any]:
    collate = getattr(getattr(torch.utils.data, "_utils", None), "collate", None)
    table: dict[Any, Any] = getattr(collate, "default_collate_fn_map", {})
    return table


_original_tensors: Any = _table().get(torch.Tensor)
_original_arrays: Any = _table().get(np.ndarray)
# Else the user has registered functions before.
_are_torchs = {getattr(original, "__module__", None) for original in (_original_tensors, _original_arrays)} == {
    torch.utils.data.default_collate.__module__
}


def install() -> None:
    table = _table()
    if _original_tensors is not None:
        table[torch.Tensor] = _tensors
    if _are_torchs:
        table[np.ndarray] = _arrays


def is_default() -> bool:
    """Whether nobody has changed what default_collate does to arrays, tensors and tuples of them."""
    table = _table()
    found = (table.get(torch.Tensor), table.get(np.ndarray), table.get(tuple))
    return _are_torchs and found == (_tensors, _arrays, None)


class _Memory:
    """A tensor's memory as NumPy takes it. After Tensor.numpy() no resize_() of the user's could let it grow."""

    def __init__(self, tensor: torch.Tensor, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.__array_interface__ = {
            "shape": shape,
            "typestr": dtype.str,
            "data": (tensor.data_ptr(), False),
            "version": 3,
        }


def _tensors(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """torch allocates shared memory wherever get_worker_info() is not None; threads need none."""
    info = current_info()
    if info is None:
        return _original_tensors(batch, collate_fn_map=collate_fn_map)
    set_worker_info(None)
    try:
        return _original_tensors(batch, collate_fn_map=collate_fn_map)
    finally:
        set_worker_info(info)


def _arrays(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """Arrays alike are copied to their places at once: torch makes a tensor of each first."""
    if (
        current_info() is not None
        and collate_fn_map is not None
        and collate_fn_map.get(torch.Tensor) is _tensors
        and set(map(type, batch)) == {np.ndarray}
        and len(set(map(_layout, batch))) == 1
    ):
        first = batch[0]
        dtype = DTYPES.get(first.dtype)
        # torch warns of arrays that cannot be written to, and refuses some strides: it shall.
        if dtype is not None and first.ndim and first.flags.c_contiguous and first.flags.writeable:
            stacked = torch.empty((len(batch), *first.shape), dtype=dtype)
            rows = (len(batch) * first.shape[0], *first.shape[1:])
            np.concatenate(batch, out=np.asarray(_Memory(stacked, rows, first.dtype)))
            return stacked
    return _original_arrays(batch, collate_fn_map=collate_fn_map)
