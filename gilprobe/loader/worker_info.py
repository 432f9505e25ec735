"""torch.utils.data.get_worker_info() made to answer per thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch.utils.data


class _Here(threading.local):
    info: Any = None


_here = _Here()


def set_worker_info(info: Any) -> None:
    _here.info = info


def current_worker_id() -> int | None:
    info = _here.info
    return None if info is None else int(info.id)


def install() -> None:
    """Makes get_worker_info() thread-local wherever it was imported, and default_collate aware of threads."""
    original = torch.utils.data.get_worker_info
    if getattr(original, "_gilprobe", False):
        return
    _make_thread_local(original)
    _keep_collate_out_of_shared_memory()


def _make_thread_local(original: Callable[[], Any]) -> None:
    # The function object itself must change: `from torch.utils.data import get_worker_info` may have run before.
    if isinstance(original, FunctionType) and not original.__closure__:
        process_info = FunctionType(original.__code__, original.__globals__)
        original.__globals__["_gilprobe_worker_info"] = lambda: _here.info or process_info()
        original.__code__ = _forward.__code__
        original._gilprobe = True  # type: ignore[attr-defined]
        return

    def get_worker_info() -> Any:
        return _here.info or original()

    get_worker_info._gilprobe = True  # type: ignore[attr-defined]
    torch.utils.data.get_worker_info = get_worker_info


def _forward() -> Any:
    return _gilprobe_worker_info()  # type: ignore[name-defined] # noqa: F821 - runs with the globals of torch's module


def _keep_collate_out_of_shared_memory() -> None:
    """torch's collate of tensors allocates shared memory whenever get_worker_info() is not None; threads need none.

    default_collate_fn_map is the documented place to change it (torch/utils/data/_utils/collate.py).
    """
    collate = getattr(getattr(torch.utils.data, "_utils", None), "collate", None)
    table = getattr(collate, "default_collate_fn_map", None)
    if table is None or torch.Tensor not in table:
        return
    original = table[torch.Tensor]

    def collate_tensors(batch: Any, *, collate_fn_map: Any = None) -> Any:
        info = _here.info
        if info is None:
            return original(batch, collate_fn_map=collate_fn_map)
        _here.info = None
        try:
            return original(batch, collate_fn_map=collate_fn_map)
        finally:
            _here.info = info

    table[torch.Tensor] = collate_tensors
