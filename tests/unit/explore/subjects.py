"""Classes under test, each bug with a twin."""

from __future__ import annotations

import threading
from threading import Condition, Lock


class Counter:
    def __init__(self) -> None:
        self._n = 0

    def inc(self) -> None:
        self._n += 1

    def get(self) -> int:
        return self._n


class LockedCounter(Counter):
    _lock = Lock()  # made at import

    def inc(self) -> None:
        with self._lock:
            self._n += 1


class Cache:
    def __init__(self) -> None:
        self._made: dict[int, object] = {}

    def get(self, key: int) -> object:
        if key not in self._made:
            self._made[key] = object()
        return self._made[key]


class LockedCache(Cache):
    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()

    def get(self, key: int) -> object:
        with self._lock:
            return super().get(key)


class Box:
    """get() blocks until something was put; it tests before it locks."""

    def __init__(self) -> None:
        self._full = Condition()
        self._items: list[int] = []

    def put(self, item: int) -> None:
        with self._full:
            self._items.append(item)
            self._full.notify()

    def get(self) -> int:
        if not self._items:
            with self._full:
                self._full.wait()
        return self._items.pop()


class SafeBox(Box):
    def get(self) -> int:
        with self._full:
            while not self._items:
                self._full.wait()
            return self._items.pop()


class Undrawable:
    def put(self, item) -> None:  # type: ignore[no-untyped-def]
        pass


class WrongModel:
    def inc(self) -> None:
        pass

    def get(self) -> int:
        return 7


class Clocked:
    """Not the same twice."""

    def inc(self) -> int:
        return next(_ticks)


_ticks = iter(range(10**9))
