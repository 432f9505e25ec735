"""Classes for `check`: each method alone is right; methods of two threads are not one after the other."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import OrderedDict
from typing import Literal

from .case import Case, check_case

Key = Literal["a", "b"]

# 17. Between the look-up and the move to the fresh end, the entry is evicted.


class LruCache:
    """The `capacity` entries used last."""

    def __init__(self, capacity: int = 1) -> None:
        self._capacity = capacity
        self._lock = threading.RLock()
        self._entries: OrderedDict[str, int] = OrderedDict()
        self._evictions = 0

    def put(self, key: Key, value: Literal[1, 2]) -> None:
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
                self._evictions += 1

    def get(self, key: Key) -> int | None:
        return self._find(key)

    def discard(self, key: Key) -> bool:
        with self._lock:
            return self._entries.pop(key, None) is not None

    def evictions(self) -> int:
        with self._lock:
            return self._evictions

    def _find(self, key: str) -> int | None:
        value = self._entries.get(key)
        if value is None:
            return None
        self._entries.move_to_end(key)
        return value


class LruCacheLockedForReaders(LruCache):
    def get(self, key: Key) -> int | None:
        with self._lock:
            return self._find(key)


# 18. Sum, count and buckets have a lock each: the scrape sees one with the new value and one without.


class Cell:
    """A number with a lock of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value = 0

    def add(self, amount: int) -> None:
        with self._lock:
            self._value += amount

    def get(self) -> int:
        with self._lock:
            return self._value


class Histogram:
    """Counts what it observes by upper bound, as a metrics endpoint exports it."""

    BOUNDS = (10, 100)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sum = Cell()
        self._count = Cell()
        self._buckets = [Cell() for _ in range(len(self.BOUNDS) + 1)]

    def observe(self, amount: Literal[5, 50]) -> None:
        with self._lock:
            self._buckets[bisect_left(self.BOUNDS, amount)].add(1)
            self._sum.add(amount)
            self._count.add(1)

    def scrape(self) -> tuple[int, int, tuple[int, ...]]:
        """Count, sum, and how many fell into each bucket."""
        return self._read_cells()

    def _read_cells(self) -> tuple[int, int, tuple[int, ...]]:
        count = self._count.get()
        total = self._sum.get()
        buckets = tuple(bucket.get() for bucket in self._buckets)
        return count, total, buckets


class HistogramScrapedUnderTheLock(Histogram):
    def scrape(self) -> tuple[int, int, tuple[int, ...]]:
        with self._lock:
            return self._read_cells()


# 19. There are tokens enough for either of two callers, and both take them.


class TokenBucket:
    """Holds up to `capacity` tokens; someone else calls refill() as time goes by."""

    def __init__(self, capacity: int = 2) -> None:
        self._capacity = capacity
        self._lock = threading.RLock()
        self._tokens = capacity
        self._refused = 0

    def try_take(self, tokens: Literal[1, 2]) -> bool:
        if self._available() < tokens:
            self._refuse()
            return False
        self._remove(tokens)
        return True

    def refill(self) -> int:
        with self._lock:
            self._tokens = min(self._capacity, self._tokens + 1)
            return self._tokens

    def refused(self) -> int:
        with self._lock:
            return self._refused

    def _available(self) -> int:
        with self._lock:
            return self._tokens

    def _remove(self, tokens: int) -> None:
        with self._lock:
            self._tokens -= tokens

    def _refuse(self) -> None:
        with self._lock:
            self._refused += 1


class TokenBucketInOneStep(TokenBucket):
    def try_take(self, tokens: Literal[1, 2]) -> bool:
        with self._lock:
            return super().try_take(tokens)


def no_debt(bucket: TokenBucket) -> bool:
    return bucket._tokens >= 0


# 20. The compiled table is old by the time that it is kept, and is stamped with the version of that time.


class RouteTable:
    """Routes, and a compiled form of them that is made outside the lock and kept until the routes change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = 0
        self._routes: set[str] = set()
        self._compiled: tuple[str, ...] = ()
        self._compiled_version = -1

    def add(self, path: Key) -> bool:
        with self._lock:
            if path in self._routes:
                return False
            self._routes.add(path)
            self._version += 1
            return True

    def remove(self, path: Key) -> bool:
        with self._lock:
            if path not in self._routes:
                return False
            self._routes.remove(path)
            self._version += 1
            return True

    def compiled(self) -> tuple[str, ...]:
        with self._lock:
            if self._compiled_version == self._version:
                return self._compiled
            routes = set(self._routes)
        compiled = self._compile(routes)
        with self._lock:
            self._compiled, self._compiled_version = compiled, self._version
        return compiled

    def _compile(self, routes: set[str]) -> tuple[str, ...]:
        return tuple(f"^/{path}$" for path in sorted(routes))


class RouteTableStampedAsRead(RouteTable):
    def compiled(self) -> tuple[str, ...]:
        with self._lock:
            if self._compiled_version == self._version:
                return self._compiled
            routes, version = set(self._routes), self._version
        compiled = self._compile(routes)
        with self._lock:
            self._compiled, self._compiled_version = compiled, version
        return compiled


CASES: tuple[Case, ...] = (
    check_case(
        "lru_get_against_eviction",
        buggy=LruCache,
        fixed=LruCacheLockedForReaders,
        args=(1,),
        oracle="exception",
        preemptions=1,
        source="caches on OrderedDict with a lock for writers only (KeyError in move_to_end)",
    ),
    check_case(
        "histogram_torn_scrape",
        buggy=Histogram,
        fixed=HistogramScrapedUnderTheLock,
        oracle="linearizability",
        preemptions=1,
        source="metrics clients whose histograms keep sum and buckets under locks of their own",
    ),
    check_case(
        "token_bucket_check_then_take",
        buggy=TokenBucket,
        fixed=TokenBucketInOneStep,
        args=(2,),
        invariant=no_debt,
        oracle="linearizability",
        preemptions=1,
        source="home-made rate limiters: enough tokens? then take them",
    ),
    check_case(
        "compiled_table_stamped_late",
        buggy=RouteTable,
        fixed=RouteTableStampedAsRead,
        oracle="linearizability",
        preemptions=1,
        source="web frameworks' route maps and settings caches: stale value kept with the newest version",
    ),
)
