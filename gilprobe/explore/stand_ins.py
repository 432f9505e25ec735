"""What stands in for the makers of locks, queues and threads: models under control, the real things elsewhere."""

from __future__ import annotations

import _thread
import queue
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from gilprobe.explore import primitives
from gilprobe.explore.primitives import ModelLock, ModelRLock, current

REAL_LOCK = type(_thread.allocate_lock())
REAL_RLOCK = _thread.RLock
_make_lock = _thread.allocate_lock
_make_rlock = _thread.RLock
RealSimpleQueue = queue.SimpleQueue
PySimpleQueue = queue._PySimpleQueue  # type: ignore[attr-defined]
_start_new_thread = _thread.start_new_thread


class _LockType(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, (REAL_LOCK, ModelLock))


class Lock(metaclass=_LockType):
    def __new__(cls) -> Any:
        return ModelLock() if current() is not None else _make_lock()


class RLock(metaclass=_LockType):
    def __new__(cls, *args: Any) -> Any:
        return ModelRLock() if current() is not None else _make_rlock()


class SimpleQueue:
    def __new__(cls) -> Any:
        return PySimpleQueue() if current() is not None else RealSimpleQueue()

    def __class_getitem__(cls, item: Any) -> Any:
        return cls


def start_new_thread(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> int:
    here = current()
    if here is None:
        return _start_new_thread(function, args, kwargs or {})
    child = here[0].spawn(f"thread-{len(here[0].tasks)}", lambda: function(*args, **(kwargs or {})))
    return child.ident


BY_ORIGINAL: dict[int, Any] = {
    id(_make_lock): Lock,
    id(REAL_LOCK): Lock,
    id(_make_rlock): RLock,
    id(RealSimpleQueue): SimpleQueue,
    id(_start_new_thread): start_new_thread,
    id(time.sleep): primitives.sleep,
    **{id(getattr(time, name)): clock for name, clock in primitives.clocks.items()},
}
STDLIB_NAMES: list[tuple[ModuleType, str]] = [
    (threading, "Lock"), (threading, "_allocate_lock"), (threading, "_CRLock"), (threading, "_time"),
    (threading, "_start_new_thread"), (_thread, "allocate_lock"), (_thread, "RLock"), (_thread, "start_new_thread"),
    (queue, "SimpleQueue"), (queue, "time"), (time, "sleep"),
    *((time, name) for name in primitives.clocks),
]  # fmt: skip
