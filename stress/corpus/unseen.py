"""Further bugs and their fixed twins, written after the explorer and not used to tune it."""

from __future__ import annotations

import collections
import queue
import threading
import time
from typing import Any

from stress.corpus.classic import Case


class Stock:
    """Sells what is left; two buyers may both see the last piece."""

    def __init__(self) -> None:
        self.left = 1
        self.sold: list[str] = []
        self.lock = threading.Lock()

    def buy(self) -> None:
        if self.left > 0:
            self.left -= 1
            self.sold.append("x")


class SafeStock(Stock):
    def buy(self) -> None:
        with self.lock:
            super().buy()


def not_oversold(stock: Stock) -> None:
    assert stock.left >= 0 and len(stock.sold) <= 1


class Lazy:
    instance: Lazy | None = None
    lock = threading.Lock()
    made = 0

    @classmethod
    def get(cls) -> Lazy:
        if cls.instance is None:
            made = cls()
            cls.instance = made
        return cls.instance


class SafeLazy(Lazy):
    instance = None

    @classmethod
    def get(cls) -> Lazy:
        if cls.instance is None:
            with cls.lock:
                if cls.instance is None:
                    cls.instance = cls()
        return cls.instance


class Asked:
    def __init__(self, kind: type[Lazy]) -> None:
        self.kind = kind
        self.got: list[Lazy] = []

    def ask(self) -> None:
        self.got.append(self.kind.get())


def one_instance(asked: Asked) -> None:
    assert asked.got[0] is asked.got[1]


class Half:
    """Publishes before it is complete."""

    def __init__(self) -> None:
        self.current: dict[str, int] | None = None

    def publish(self) -> None:
        self.current = {}
        self.current["port"] = 80

    def use(self) -> None:
        current = self.current
        if current is not None:
            current["port"]


class SafeHalf(Half):
    def publish(self) -> None:
        made = {}
        made["port"] = 80
        self.current = made


class Registry:
    """Iterates while another thread registers."""

    def __init__(self) -> None:
        self.listeners = {"a": 1, "b": 2}
        self.lock = threading.Lock()

    def register(self) -> None:
        self.listeners["c"] = 3

    def notify(self) -> None:
        for _name in self.listeners:
            pass


class SafeRegistry(Registry):
    def notify(self) -> None:
        for _name in list(self.listeners):
            pass


class Workers:
    """close() joins workers that may wait for ever: the flag is tested before the blocking get."""

    def __init__(self) -> None:
        self.jobs: queue.Queue[int | None] = queue.Queue()
        self.stopping = False

    def work(self) -> None:
        while not self.stopping:
            job = self.jobs.get()
            if job is None:
                return

    def close(self) -> None:
        self.jobs.put(1)
        self.stopping = True


class SafeWorkers(Workers):
    def close(self) -> None:
        self.jobs.put(1)
        self.stopping = True
        self.jobs.put(None)


class Semaphored:
    """A permit is lost when the queue is full."""

    def __init__(self) -> None:
        self.slots = threading.Semaphore(1)
        self.items: list[int] = []

    def use(self) -> None:
        self.slots.acquire()
        if self.items:
            return
        self.items.append(1)
        self.slots.release()


class SafeSemaphored(Semaphored):
    def use(self) -> None:
        with self.slots:
            if not self.items:
                self.items.append(1)


class Turns:
    """notify() wakes the wrong one of two waiters."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.turn = 0

    def wait_for_turn(self, mine: int) -> None:
        with self.changed:
            while self.turn < mine:
                self.changed.wait()
            self.turn += 1
            self._tell()

    def _tell(self) -> None:
        self.changed.notify()

    def go(self) -> None:
        with self.changed:
            self.turn += 1
            self._tell()


class SafeTurns(Turns):
    def _tell(self) -> None:
        self.changed.notify_all()


class Ledger:
    """The total is read in two parts."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.accounts = {"a": 10, "b": 0}

    def move(self) -> None:
        with self.lock:
            self.accounts["a"] -= 5
        with self.lock:
            self.accounts["b"] += 5

    def audit(self) -> None:
        with self.lock:
            assert sum(self.accounts.values()) == 10


class SafeLedger(Ledger):
    def move(self) -> None:
        with self.lock:
            self.accounts["a"] -= 5
            self.accounts["b"] += 5


class Expiring:
    """The entry may go between the test and the read."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {"k": "v"}

    def read(self) -> str | None:
        if "k" in self.entries:
            return self.entries["k"]
        return None

    def expire(self) -> None:
        time.sleep(0.01)
        self.entries.pop("k", None)


class SafeExpiring(Expiring):
    def read(self) -> str | None:
        return self.entries.get("k")


class Reset:
    """Event.clear after set loses a signal."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.jobs: collections.deque[int] = collections.deque()
        self.done = 0

    def produce(self) -> None:
        self.jobs.append(1)
        self.ready.set()

    def consume(self) -> None:
        while self.done < 2:
            self.ready.wait()
            while self.jobs:
                self.jobs.popleft()
                self.done += 1
            self.ready.clear()


class SafeReset(Reset):
    def consume(self) -> None:
        while self.done < 2:
            self.ready.wait()
            self.ready.clear()
            while self.jobs:
                self.jobs.popleft()
                self.done += 1


def _case(
    name: str, wrong: Any, right: Any, bodies: Any, final: Any, oracles: tuple[str, ...], least: int
) -> list[Case]:
    return [
        Case(name, bodies, wrong, final, oracles, least),
        Case(f"{name}-twin", bodies, right, final),
    ]


def call(name: str, *args: Any) -> Any:
    def body(shared: Any) -> None:
        getattr(shared, name)(*args)

    return body


CASES = [
    *_case("stock", Stock, SafeStock, (call("buy"), call("buy")), not_oversold, ("invariant",), 1),
    *_case("singleton", lambda: Asked(Lazy), lambda: Asked(SafeLazy), (call("ask"), call("ask")), one_instance,
           ("invariant",), 1),
    *_case("half-published", Half, SafeHalf, (call("publish"), call("use")), None, ("exception",), 1),
    *_case("iteration", Registry, SafeRegistry, (call("register"), call("notify")), None, ("exception",), 1),
    *_case("stop-flag", Workers, SafeWorkers, (call("work"), call("close")), None, ("deadlock", "lost-wakeup"), 1),
    *_case("permit", Semaphored, SafeSemaphored, (call("use"), call("use"), call("use")), None,
           ("deadlock", "lost-wakeup"), 0),
    *_case("wrong-waiter", Turns, SafeTurns, (call("wait_for_turn", 2), call("wait_for_turn", 1), call("go")), None,
           ("lost-wakeup",), 0),
    *_case("two-part-move", Ledger, SafeLedger, (call("move"), call("audit")), None, ("exception",), 1),
    *_case("expiry", Expiring, SafeExpiring, (call("read"), call("expire")), None, ("exception",), 1),
    *_case("event-reset", Reset, SafeReset, (call("produce"), call("produce"), call("consume")), None,
           ("lost-wakeup",), 1),
]  # fmt: skip
