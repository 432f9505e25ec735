"""debug_writes: which objects of a shared dataset do two workers write?

For debugging only: the dataset stays instrumented, and so do the drawing functions of random, numpy.random and torch.
"""

from __future__ import annotations

import functools
import io
import random
import threading
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from gilprobe.loader.worker_info import current_worker_id

_DEPTH_MAX = 4
_STACK_MAX = 12
# Made to be written by several threads.
_SYNCHRONIZED = ("threading", "_thread", "queue", "_queue")
_DICT_WRITES = ("__setitem__", "__delitem__", "update", "pop", "popitem", "clear", "setdefault", "__ior__")
_LIST_WRITES = (
    *("__setitem__", "__delitem__", "append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse"),
    *("__iadd__", "__imul__"),
)
_FILE_USES = ("read", "read1", "readinto", "readline", "readlines", "write", "seek", "truncate")
_RANDOM_DRAWS = ("random", "randint", "randrange", "uniform", "choice", "choices", "sample", "shuffle", "gauss")
_NUMPY_DRAWS = ("rand", "randn", "randint", "random", "uniform", "normal", "choice", "permutation", "shuffle")
_TORCH_DRAWS = ("rand", "randn", "randint", "randperm", "bernoulli", "multinomial", "normal")


@dataclass(frozen=True)
class SharedWrite:
    """An object that two workers wrote. stacks: one a worker, outermost first, as traceback prints them."""

    target: str
    workers: tuple[int, int]
    stacks: tuple[str, str]


class WriteWatch:
    """Sees writes made in Python. `unseen` names what only C code can write, or what cannot be watched."""

    def __init__(self, dataset: Any) -> None:
        self._lock = threading.Lock()
        self._first: dict[str, tuple[int, str]] = {}
        self._found: dict[str, SharedWrite] = {}
        self.unseen: list[str] = []
        self._seen_ids: set[int] = set()
        self._watch_object(dataset, "dataset", 0)
        _watch_draws()

    @property
    def found(self) -> tuple[SharedWrite, ...]:
        with self._lock:
            return tuple(self._found.values())

    def note(self, target: str) -> None:
        """Called at each write, in the writer's thread."""
        worker_id = current_worker_id()
        if worker_id is None or target in self._found:
            return
        with self._lock:
            first = self._first.get(target)
            if target in self._found or (first is not None and first[0] == worker_id):
                return
            stack = "".join(traceback.format_stack()[-_STACK_MAX:-1])
            if first is None:
                self._first[target] = (worker_id, stack)
                return
            self._found[target] = SharedWrite(target, (first[0], worker_id), (first[1], stack))
        warnings.warn(
            f"{target} is written by workers {first[0]} and {worker_id}.\nWorker {first[0]}:\n{first[1]}"
            f"Worker {worker_id}:\n{stack}",
            stacklevel=3,
        )

    def _watch_object(self, owner: Any, path: str, depth: int) -> None:
        if id(owner) in self._seen_ids or depth > _DEPTH_MAX:
            return
        self._seen_ids.add(id(owner))
        named = getattr(owner, "__dict__", None)
        if not isinstance(named, dict):
            self.unseen.append(f"{path} ({type(owner).__name__})")
            return
        for name, value in list(named.items()):
            named[name] = self._watched(value, f"{path}.{name}", depth + 1)
        try:
            owner.__class__ = _noting_class(type(owner), path, self)
        except TypeError:
            self.unseen.append(f"attributes of {path} ({type(owner).__name__})")

    def _watched(self, value: Any, path: str, depth: int) -> Any:
        if (
            value is None
            or isinstance(value, str | bytes | int | float | complex | tuple | frozenset | type)
            or callable(value)
        ):
            return value
        if type(value) is dict:
            inner = {key: self._watched(part, f"{path}[{key!r}]", depth + 1) for key, part in value.items()}
            return _noting(dict, _DICT_WRITES, path, self)(inner)
        if type(value) is list:
            # Samples by the thousand are not looked into.
            parts = [self._watched(part, f"{path}[{n}]", depth + 1) for n, part in enumerate(value[:64])]
            return _noting(list, _LIST_WRITES, path, self)(parts + value[64:])
        if type(value).__module__ in _SYNCHRONIZED:
            return value
        if isinstance(value, io.IOBase):
            return _NotingFile(value, path, self)
        if (
            type(value).__module__ == "builtins"
            or isinstance(value, torch.Tensor)
            or hasattr(value, "__array_interface__")
        ):
            self.unseen.append(f"{path} ({type(value).__name__})")
        else:
            self._watch_object(value, path, depth)
        return value


class _NotingFile:
    """A file handle: its position is shared, so that reading is a write too."""

    def __init__(self, file: Any, path: str, watch: WriteWatch) -> None:
        self._file, self._path, self._watch = file, path, watch

    def __getattr__(self, name: str) -> Any:
        if name in _FILE_USES:
            self._watch.note(self._path)
        return getattr(self._file, name)

    def __iter__(self) -> Any:
        self._watch.note(self._path)
        return iter(self._file)


def _noting(base: type, writes: tuple[str, ...], path: str, watch: WriteWatch) -> type:
    def noting(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def write(self: Any, *args: Any, **options: Any) -> Any:
            watch.note(path)
            return original(self, *args, **options)

        return write

    return type(base.__name__, (base,), {name: noting(getattr(base, name)) for name in writes})


def _noting_class(base: type, path: str, watch: WriteWatch) -> type:
    plain_set: Any = base.__setattr__
    plain_delete: Any = base.__delattr__

    def set_attribute(self: Any, name: str, value: Any) -> None:
        watch.note(f"{path}.{name}")
        plain_set(self, name, value)

    def delete_attribute(self: Any, name: str) -> None:
        watch.note(f"{path}.{name}")
        plain_delete(self, name)

    names = {"__setattr__": set_attribute, "__delattr__": delete_attribute, "__module__": base.__module__}
    return type(base.__name__, (base,), {**names, "__qualname__": base.__qualname__})


_here = threading.local()
_draws_watched = False


def enter_worker(watch: WriteWatch | None) -> None:
    """The watch that the global draws of this thread are noted in."""
    _here.watch = watch


def _watch_draws() -> None:
    global _draws_watched
    if _draws_watched:
        return
    _draws_watched = True
    modules: list[tuple[Any, tuple[str, ...], str]] = [
        (random, _RANDOM_DRAWS, "the global generator of random"),
        (torch, _TORCH_DRAWS, "the global generator of torch"),
    ]
    try:
        import numpy
    except ModuleNotFoundError:
        pass
    else:
        modules.append((numpy.random, _NUMPY_DRAWS, "the global generator of numpy.random"))
    for module, names, target in modules:
        for name in names:
            setattr(module, name, _noting_draw(getattr(module, name), target))


def _noting_draw(original: Callable[..., Any], target: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def draw(*args: Any, **options: Any) -> Any:
        watch = getattr(_here, "watch", None)
        if watch is not None and options.get("generator") is None:
            watch.note(target)
        return original(*args, **options)

    return draw
