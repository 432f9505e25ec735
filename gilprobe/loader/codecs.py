"""Decoders that workers must not share: nvImageCodec 0.9.0's crashes, or loses images, where two threads use one."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from gilprobe.record.spans import span

_MODULE = "nvidia.nvimgcodec"
_DEPTH_MAX = 4
# Enough for a list of codecs; the samples of a dataset in memory are not walked.
_PARTS_MAX = 64


class CodecWatch:
    """Tells once of each Decoder that all workers can reach. The recorder reads of it from a span's name
    (gilprobe/analysis/loader.py), which also survives the crash."""

    def __init__(self, collate_fn: Any, *, own_attributes: bool) -> None:
        self._collate_fn = collate_fn
        self._own_attributes = own_attributes
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def look(self, dataset: Any) -> None:
        """Before the workers start, and after the first sample of each: many decoders are made by then only."""
        if _MODULE not in sys.modules:
            return
        for path in shared_decoders(dataset, self._collate_fn, own_attributes=self._own_attributes):
            with self._lock:
                new = path not in self._told
                self._told.add(path)
            if new:
                with span(f"loader.shared-codec {path}"):
                    warnings.warn(
                        f"{path}, a Decoder of nvImageCodec, is shared by the workers. Version 0.9.0 crashes or loses "
                        "images when two threads use one: make one for each worker, in worker_init_fn or at its "
                        "first sample in a threading.local.",
                        RuntimeWarning,
                        stacklevel=2,
                    )


def shared_decoders(dataset: Any, collate_fn: Any = None, *, own_attributes: bool = False) -> list[str]:
    """Paths of Decoders that every worker reaches, as the user would write them.

    own_attributes: each worker has its own copy of the dataset's attributes, so that only what functions reach
    (globals, closures, defaults, class attributes) is shared. What a threading.local holds is not.
    """
    roots = [] if own_attributes else [("dataset", dataset)]
    for kind in type(dataset).__mro__:
        if not _is_library(kind):
            roots += [(f"{kind.__name__}.{name}", part) for name, part in vars(kind).items()]
    roots.append(("collate_fn", collate_fn))
    seen: set[int] = set()
    return list(dict.fromkeys(path for name, root in roots for path in _walk(name, root, seen, 0)))


def _walk(path: str, value: Any, seen: set[int], depth: int) -> Iterator[str]:
    if id(value) in seen or depth > _DEPTH_MAX:
        return
    seen.add(id(value))
    if type(value).__name__ == "Decoder" and type(value).__module__.startswith(_MODULE):
        yield path
        return
    for name, part in _parts(path, value):
        yield from _walk(name, part, seen, depth + 1)


def _parts(path: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, MethodType):
        return [(f"{path}.__self__", value.__self__), (path, value.__func__)]
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, FunctionType):
        return [] if _is_library(value) else _reached(value)
    if isinstance(value, dict):
        return [(f"{path}[{key!r}]", part) for key, part in list(value.items())[:_PARTS_MAX]]
    if isinstance(value, list | tuple):
        return [(f"{path}[{number}]", part) for number, part in enumerate(value[:_PARTS_MAX])]
    if isinstance(value, threading.local | type | ModuleType):
        return []
    named = getattr(value, "__dict__", None)
    return [(f"{path}.{name}", part) for name, part in list(named.items())] if isinstance(named, dict) else []


def _is_library(value: type | FunctionType) -> bool:
    return (value.__module__ or "").split(".")[0] in ("builtins", "numpy", "torch", "typing")


def _reached(function: FunctionType) -> list[tuple[str, Any]]:
    names = _global_names(function.__code__)
    found = [(name, function.__globals__[name]) for name in names if name in function.__globals__]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found.append((name, cell.cell_contents))
        except ValueError:  # not filled yet
            continue
    return found + [("a default value", part) for part in function.__defaults__ or ()]


def _global_names(code: CodeType) -> list[str]:
    inner = [name for part in code.co_consts if isinstance(part, CodeType) for name in _global_names(part)]
    return [*code.co_names, *inner]
