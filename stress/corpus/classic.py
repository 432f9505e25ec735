"""Five classic bugs, each with its fixed twin. A case: bodies, state, final, and what the explorer should say."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from threading import Lock
from typing import Any


@dataclass(frozen=True)
class Case:
    """A bug or its fixed twin."""

    name: str
    bodies: tuple[Any, ...]
    state: Any
    final: Any = None
    oracles: tuple[str, ...] = ()  # empty: a twin
    preemptions: int = 1  # the least known


class Counter:
    def __init__(self) -> None:
        self.n = 0

    def add(self) -> None:
        self.n += 1


class LockedCounter(Counter):
    lock = Lock()

    def add(self) -> None:
        with self.lock:
            self.n += 1


class Cache:
    def __init__(self) -> None:
        self.items: dict[str, object] = {}
        self.made = 0
        self.lock = Lock()

    def get(self, key: str) -> object:
        if key not in self.items:
            self.items[key] = object()
        return self.items[key]


class LockedCache(Cache):
    def get(self, key: str) -> object:
        with self.lock:
            return super().get(key)


class Accounts:
    def __init__(self) -> None:
        self.a = threading.Lock()
        self.b = threading.Lock()
        self.moved = 0

    def there(self) -> None:
        with self.a, self.b:
            self.moved += 1

    def back(self) -> None:
        with self.b, self.a:
            self.moved -= 1


class OrderedAccounts(Accounts):
    def back(self) -> None:
        with self.a, self.b:
            self.moved -= 1


class Gate:
    def __init__(self) -> None:
        self.open = False
        self.condition = threading.Condition()

    def wait(self) -> None:
        if not self.open:
            with self.condition:
                self.condition.wait()

    def set(self) -> None:
        self.open = True
        with self.condition:
            self.condition.notify_all()


class SafeGate(Gate):
    def wait(self) -> None:
        with self.condition:
            while not self.open:
                self.condition.wait()

    def set(self) -> None:
        with self.condition:
            self.open = True
            self.condition.notify_all()


class Closed(Exception):
    pass


class Channel:
    def __init__(self) -> None:
        self.items: deque[int] = deque()
        self.closed = False
        self.lock = threading.Lock()
        self.lost = 0

    def put(self, item: int) -> bool:
        if self.closed:
            return False
        with self.lock:
            self.items.append(item)
        return True

    def close(self) -> list[int]:
        with self.lock:
            self.closed = True
            rest = list(self.items)
            self.items.clear()
        return rest


class SafeChannel(Channel):
    def put(self, item: int) -> bool:
        with self.lock:
            if self.closed:
                return False
            self.items.append(item)
        return True


def _counted(counter: Counter) -> None:
    assert counter.n == 2, counter.n


class CacheUse:
    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.seen: list[object] = []

    def use(self) -> None:
        self.seen.append(self.cache.get("k"))


def _same(use: CacheUse) -> None:
    assert use.seen[0] is use.seen[1]


def _nothing_after_close(channel: Channel) -> None:
    assert not (channel.closed and channel.items), "an item was put after close"


CASES = [
    Case("counter", (Counter.add, Counter.add), Counter, _counted, ("invariant",)),
    Case("counter-twin", (LockedCounter.add, LockedCounter.add), LockedCounter, _counted),
    Case("cache", (CacheUse.use, CacheUse.use), lambda: CacheUse(Cache()), _same, ("invariant",)),
    Case("cache-twin", (CacheUse.use, CacheUse.use), lambda: CacheUse(LockedCache()), _same),
    Case("abba", (Accounts.there, Accounts.back), Accounts, None, ("deadlock",)),
    Case("abba-twin", (OrderedAccounts.there, OrderedAccounts.back), OrderedAccounts),
    Case("lost-wakeup", (Gate.wait, Gate.set), Gate, None, ("lost-wakeup",)),
    Case("lost-wakeup-twin", (SafeGate.wait, SafeGate.set), SafeGate),
    Case("close-put", (lambda c: c.put(1), Channel.close), Channel, _nothing_after_close, ("invariant",)),
    Case("close-put-twin", (lambda c: c.put(1), SafeChannel.close), SafeChannel, _nothing_after_close),
]
