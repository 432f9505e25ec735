"""What the workers' threads share of the dataset, and what each has for itself."""

from __future__ import annotations

import io
import mmap
import pickle
import warnings
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Literal, NamedTuple

import torch

from gilprobe.errors import GilprobeError, UsageError

Mode = Literal["auto", "copy", "share"]
COPY_LIMIT_BYTES = 64 << 20

# Shorter bytes cost less to copy than to look up.
_SHARED_BYTES_MIN = 256
_PATH_DEPTH_MAX = 8


class Isolation(NamedTuple):
    """mode: `copy` (each worker has its own Python objects) or `share` (all workers have the user's own)."""

    mode: Literal["copy", "share"]
    reason: str


class Replicas:
    """Hands each worker its (dataset, worker_init_fn), copied together so that a bound init function meets its copy."""

    def __init__(self, dataset: Any, init_fn: Callable[[int], Any] | None, mode: Mode) -> None:
        self._original = (dataset, init_fn)
        self._packed: _Packed | None = None
        self.isolation = self._decide(mode)

    def take(self) -> tuple[Any, Callable[[int], Any] | None]:
        """Called in the worker's own thread: free-threaded builds then count references to the copies cheaply."""
        if self._packed is None:
            return self._original
        copied: tuple[Any, Callable[[int], Any] | None] = self._packed.load()
        return copied

    def _decide(self, mode: Mode) -> Isolation:
        if mode == "share":
            return Isolation("share", "asked for")
        dataset, init_fn = self._original
        limit = COPY_LIMIT_BYTES if mode == "auto" else None
        try:
            packed = _Packed((dataset, init_fn), limit=limit, share_storage=mode == "auto")
            packed.load()
        except _TooLarge:
            path, size = _largest(dataset)
            reason = (
                f"{path} holds {size >> 20} MB or more of Python objects, over the limit of {COPY_LIMIT_BYTES >> 20} MB"
            )
        except Exception as error:
            path = _culprit(dataset, init_fn)
            reason = f"{path} cannot be copied ({type(error).__name__}: {error})"
        else:
            self._packed = packed
            if mode == "copy":
                return Isolation("copy", "asked for")
            return Isolation("copy", f"{len(packed.data)} bytes of Python objects a worker; storage is shared")
        if mode == "copy":
            raise GilprobeError(
                f"isolate='copy': {reason}", "Use isolate='share' if the workers may share it, or drop the attribute."
            )
        warnings.warn(
            f"ThreadDataLoader: the workers share one dataset, because {reason}. "
            "Objects that a worker changes are seen by all; isolate='share' says that this is meant.",
            stacklevel=5,
        )
        return Isolation("share", reason)


def check_mode(mode: str) -> Mode:
    if mode not in ("auto", "copy", "share"):
        raise UsageError(f"isolate={mode!r} is not a way to isolate", "Use 'auto', 'copy' or 'share'.")
    return mode  # type: ignore[return-value]


class _TooLarge(Exception):
    """The pickled part passes the limit."""


class _LimitedFile(io.BytesIO):
    def __init__(self, limit: int | None) -> None:
        super().__init__()
        self.limit = limit

    def write(self, data: Any) -> int:
        # The pickler writes frames of 64 KB, so that a dataset of many gigabytes is given up at the limit.
        if self.limit is not None and self.tell() + memoryview(data).nbytes > self.limit:
            raise _TooLarge
        return super().write(data)


class _Pickler(pickle.Pickler):
    def __init__(self, file: _LimitedFile, shared: list[Any], share_storage: bool) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.shared = shared
        self.share_storage = share_storage

    def persistent_id(self, obj: Any) -> int | None:
        # An index: two references to one object stay one object, as pickle's memo does not see persistent objects.
        if _is_code(obj) or (self.share_storage and _is_storage(obj)):
            self.shared.append(obj)
            return len(self.shared) - 1
        return None


class _Packed:
    """A pickle whose large parts stay where they are."""

    def __init__(self, value: Any, *, limit: int | None, share_storage: bool) -> None:
        file = _LimitedFile(limit)
        self.shared: list[Any] = []
        _Pickler(file, self.shared, share_storage).dump(value)
        self.data = file.getvalue()

    def load(self) -> Any:
        return _Unpickler(self.data, self.shared).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, shared: list[Any]) -> None:
        super().__init__(io.BytesIO(data))
        self.shared = shared
        self.views: dict[int, Any] = {}

    def persistent_load(self, pid: Any) -> Any:
        original = self.shared[pid]
        view = self.views.get(id(original))
        if view is None:
            view = self.views[id(original)] = _view(original)
        return view


def _is_code(obj: Any) -> bool:
    """Functions (lambdas and local ones too), classes and modules: within one process they need no copy."""
    if isinstance(obj, FunctionType | type | ModuleType):
        return True
    return isinstance(obj, BuiltinFunctionType) and (obj.__self__ is None or isinstance(obj.__self__, ModuleType))


def _is_storage(obj: Any) -> bool:
    if isinstance(obj, bytes):
        return len(obj) >= _SHARED_BYTES_MIN
    if isinstance(obj, torch.Tensor | torch.UntypedStorage | mmap.mmap | bytearray):
        return True
    return _is_plain_array(obj)


def _is_plain_array(obj: Any) -> bool:
    # An array of objects holds Python objects: those are copied.
    return hasattr(obj, "__array_interface__") and not getattr(getattr(obj, "dtype", None), "hasobject", True)


def _view(obj: Any) -> Any:
    """A Python object of the worker's own over the same storage, where that can be had."""
    if type(obj) is torch.Tensor and obj.layout is torch.strided and obj.is_leaf:
        return obj.detach().requires_grad_(obj.requires_grad)
    if _is_plain_array(obj) and type(obj).__name__ in ("ndarray", "memmap"):
        return obj.view()
    return obj


def _culprit(dataset: Any, init_fn: Any) -> str:
    """The path of the first attribute that cannot be copied, as the user would write it."""
    if not _can_copy(dataset):
        return _descend(dataset, "dataset", _can_copy)
    return "worker_init_fn" if not _can_copy(init_fn) else "dataset with worker_init_fn"


def _largest(dataset: Any) -> tuple[str, int]:
    """The path to the largest part. The size counts up to the limit: beyond it nothing is pickled."""
    path, value = "dataset", dataset
    size = _size(value)
    for _ in range(_PATH_DEPTH_MAX):
        parts = [(_size(part), name, part) for name, part in _attributes(value)]
        best = max(parts, key=lambda part: part[0], default=None)
        if best is None or best[0] * 2 < size:
            break
        size, path, value = best[0], path + best[1], best[2]
    return path, size


def _descend(value: Any, path: str, is_fine: Callable[[Any], bool]) -> str:
    for _ in range(_PATH_DEPTH_MAX):
        for name, part in _parts(value):
            if not is_fine(part):
                path, value = path + name, part
                break
        else:
            return path
    return path


def _attributes(value: Any) -> list[tuple[str, Any]]:
    named = getattr(value, "__dict__", None)
    return [(f".{name}", part) for name, part in named.items()] if isinstance(named, dict) else []


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [(f"[{number}]", part) for number, part in enumerate(value)]
    return _attributes(value)


def _can_copy(value: Any) -> bool:
    try:
        _Packed(value, limit=COPY_LIMIT_BYTES, share_storage=True).load()
    except _TooLarge:
        return True
    except Exception:
        return False
    return True


def _size(value: Any) -> int:
    try:
        return len(_Packed(value, limit=COPY_LIMIT_BYTES, share_storage=True).data)
    except _TooLarge:
        return COPY_LIMIT_BYTES
    except Exception:
        return 0
