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


def current_info() -> Any:
    """None outside our workers."""
    return _here.info


def current_worker_id() -> int | None:
    info = _here.info
    return None if info is None else int(info.id)


def install() -> None:
    """Makes get_worker_info() thread-local wherever it was imported."""
    original: Callable[[], Any] = torch.utils.data.get_worker_info
    if getattr(original, "_gilprobe", False):
        return
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
