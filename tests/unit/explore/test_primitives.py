"""What code uses of threading, queue and concurrent.futures is controlled, whenever it was imported or made."""

from __future__ import annotations

import functools
import threading
import time as clock
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Queue, SimpleQueue
from threading import Barrier, Condition, Event, Lock, RLock, Semaphore, Thread, local
from time import sleep
from typing import Any

import pytest

from gilprobe.explore import Result, run

LOCK = Lock()
RLOCK = RLock()
EVENT = Event()
CONDITION = Condition()
SEMAPHORE = Semaphore(1)
QUEUE: Queue[Any] = Queue()
SIMPLE: SimpleQueue[Any] = SimpleQueue()
LOCAL = local()
TOTAL = 0


class Shared:
    def __init__(self) -> None:
        self.n = 0
        self.seen: list[Any] = []
        self.barrier = Barrier(2)


@dataclass
class Owned:
    lock: Any = field(default_factory=Lock)
    n: int = 0


def two(shared: Any) -> None:
    assert shared.n == 2, shared.n


def adder(guard: Any) -> Callable[[Any], None]:
    def add(shared: Any) -> None:
        with guard:
            shared.n += 1

    return add


def bare(shared: Any) -> None:
    shared.n += 1


def owned(shared: Owned) -> None:
    with shared.lock:
        shared.n += 1


class Adding(Thread):
    def __init__(self, shared: Shared) -> None:
        super().__init__()
        self.shared = shared

    def run(self) -> None:
        self.shared.n += 1


class AddingLocked(Adding):
    def run(self) -> None:
        with LOCK:
            self.shared.n += 1


def in_threads(kind: type[Adding], shared: Shared) -> None:
    threads = [kind(shared), kind(shared)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
        assert not thread.is_alive()
    two(shared)


def in_executor(work: Callable[[Any], None], shared: Shared) -> None:
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(work, shared), pool.submit(work, shared)]:
            future.result()
    two(shared)


def put(shared: Shared) -> None:
    QUEUE.put(1)
    QUEUE.put(None)


def take(shared: Shared) -> None:
    while (item := QUEUE.get()) is not None:
        shared.seen.append(item)


def put_simply(shared: Shared) -> None:
    SIMPLE.put(1)
    SIMPLE.put(None)


def take_simply(shared: Shared) -> None:
    while (item := SIMPLE.get()) is not None:
        shared.seen.append(item)


def one_seen(shared: Shared) -> None:
    assert shared.seen == [1]


def set_event(shared: Shared) -> None:
    shared.n = 1
    EVENT.set()


def wait_event(shared: Shared) -> None:
    if not EVENT.wait(5):
        raise TimeoutError
    assert shared.n == 1


def wait_condition(shared: Shared) -> None:
    with CONDITION:
        while not shared.n:
            CONDITION.wait()


def notify(shared: Shared) -> None:
    with CONDITION:
        shared.n = 1
        CONDITION.notify()


def meet(mine: int, shared: Shared) -> None:
    shared.seen.append(mine)
    shared.barrier.wait()
    assert len(shared.seen) == 2


def sleepy(shared: Shared) -> None:
    value = shared.n
    sleep(100)
    shared.n = value + 1


def own_local(shared: Shared) -> None:
    assert not hasattr(LOCAL, "mine")
    LOCAL.mine = threading.get_ident()
    assert shared.n == 0
    LOCAL.count = 0
    LOCAL.count += 1
    assert LOCAL.mine == threading.get_ident()


def until_deadline(shared: Shared) -> None:
    end = clock.monotonic() + 10
    while clock.monotonic() < end and shared.n != 5:
        sleep(1)


def set_late(shared: Shared) -> None:
    sleep(100)
    shared.n = 5


def spin(shared: Shared) -> None:
    while shared.n != 5:
        pass


def timer(shared: Shared) -> None:
    later = threading.Timer(100, bare, [shared])
    later.start()
    later.join()
    assert shared.n == 1


def add_global(_: Any) -> None:
    global TOTAL
    TOTAL += 1


def add_global_locked(_: Any) -> None:
    global TOTAL
    with LOCK:
        TOTAL += 1


def reset_global() -> None:
    global TOTAL
    TOTAL = 0


def total_is_two(_: Any) -> None:
    assert TOTAL == 2


def leave_locked(shared: Shared) -> None:
    LOCK.acquire()


FINE: dict[str, tuple[Any, ...]] = {
    "a lock made at import": (adder(LOCK), adder(LOCK), two),
    "an rlock made at import": (adder(RLOCK), adder(RLOCK), two),
    "a semaphore made at import": (adder(SEMAPHORE), adder(SEMAPHORE), two),
    "a condition as a lock": (adder(CONDITION), adder(CONDITION), two),
    "a condition made at import": (wait_condition, notify, None),
    "an event, waited for with a timeout that cannot pass": (set_event, wait_event, None),
    "a queue made at import": (put, take, one_seen),
    "a simple queue made at import": (put_simply, take_simply, one_seen),
    "a barrier": (functools.partial(meet, 0), functools.partial(meet, 1), None),
    "thread-locals": (own_local, own_local, None),
    "thread subclasses": (functools.partial(in_threads, AddingLocked), None),
    "an executor": (functools.partial(in_executor, adder(LOCK)), None),
    "polling until a deadline": (until_deadline, set_late, None),
    "a busy loop": (spin, set_late, None),
    "a timer": (timer, None),
}


@pytest.mark.parametrize("name", FINE)
def test_correct_use_never_fails(name: str) -> None:
    *bodies, final = FINE[name]
    result = run(*bodies, state=Shared, final=final, budget_s=1.0)
    assert result.verdict in ("EXHAUSTED", "NOT_FOUND"), result.story


WRONG: dict[str, tuple[Any, ...]] = {
    "no lock": (bare, bare, two, "invariant"),
    "a sleep between read and write": (sleepy, sleepy, two, "invariant"),
    "thread subclasses without a lock": (functools.partial(in_threads, Adding), None, "exception"),
    "an executor without a lock": (functools.partial(in_executor, bare), None, "exception"),
    "a lock that is never released": (leave_locked, leave_locked, None, "deadlock"),
    "an unlocked sum that nobody looks at": (bare, bare, None, "race"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_fails(name: str) -> None:
    *bodies, final, oracle = WRONG[name]
    result = run(*bodies, state=Shared, final=final)
    assert (result.verdict, result.oracle) == ("FAILED", oracle), result


def test_a_default_factory_that_holds_the_real_lock() -> None:
    assert run(owned, owned, state=Owned, final=two).verdict == "EXHAUSTED"


def test_globals() -> None:
    assert run(add_global, add_global, state=reset_global, final=total_is_two).oracle == "invariant"
    assert run(add_global_locked, add_global_locked, state=reset_global, final=total_is_two).verdict == "EXHAUSTED"


def test_everything_is_real_again_afterwards() -> None:
    before = (threading.Lock, threading._allocate_lock, LOCK, Thread.start, clock.sleep, sleep)  # type: ignore[attr-defined]
    run(bare, bare, state=Shared)
    after: Result | tuple[Any, ...] = (threading.Lock, threading._allocate_lock, LOCK, Thread.start, clock.sleep, sleep)  # type: ignore[attr-defined]
    assert all(a is b for a, b in zip(before, after, strict=True))  # type: ignore[arg-type]
    assert LOCK.acquire(blocking=False)
    LOCK.release()
