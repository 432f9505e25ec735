"""locks.py CASE [THREADS] [HOLD_MS] [ROUNDS]: locks that threads wait for, and locks that they do not."""

import logging
import os
import queue
import sys
import tempfile
import threading
import time
from collections import Counter

from truth import Truth, together

truth = Truth()
case = sys.argv[1]
threads, hold_ms, rounds = (*map(float, sys.argv[2:]), *(2.0, 5.0, 10.0)[len(sys.argv) - 2 :])
threads, rounds = int(threads), int(rounds)


def hold(lock):
    for _ in range(rounds):
        truth.timed("lock", lock.acquire)
        time.sleep(hold_ms / 1e3)
        lock.release()


def lock():
    shared = threading.Lock()
    together(*[lambda: hold(shared)] * threads)


def rlock():
    shared = threading.RLock()
    together(*[lambda: hold(shared)] * threads)


def lock_local():
    together(*[lambda: hold(threading.Lock())] * threads)


def rlock_local():
    together(*[lambda: hold(threading.RLock())] * threads)


def releasers():
    """One waiter; two releasers who take turns, so that each ends a known number of its waits.

    releases: all of them. waited: those that ended a wait of 1 ms or more by the waiter's stopwatch.
    """
    shared, turns, waited = threading.Lock(), (threading.Semaphore(0), threading.Semaphore(0)), Counter()

    def release_often():
        shared.release()

    def release_seldom():
        shared.release()

    def waiter():
        for number in range(4 * rounds):
            seldom = number % 4 == 0
            turns[seldom].release()
            before = truth.seconds["lock"]
            truth.timed("lock", shared.acquire)
            if truth.seconds["lock"] - before >= 0.001:
                waited[("release_often", "release_seldom")[seldom]] += 1

    def releasing(release, turn, count):
        for _ in range(count):
            turn.acquire()
            time.sleep(0.002)
            truth.releases[release.__name__] += 1
            release()

    shared.acquire()
    together(
        waiter,
        lambda: releasing(release_often, turns[False], 3 * rounds),
        lambda: releasing(release_seldom, turns[True], rounds),
    )
    truth.facts["waited"] = waited


class SlowHandler(logging.Handler):
    """Its own part of a call, in slept_s, is what the caller does not wait for."""

    def __init__(self):
        super().__init__()
        self.slept_s = 0.0

    def emit(self, record):
        start = time.perf_counter()
        time.sleep(hold_ms / 1e3)
        self.slept_s += time.perf_counter() - start


def _log_through(handlers):
    # getLogger and the first isEnabledFor take logging's one lock: not in the threads.
    loggers = []
    for number, handler in enumerate(handlers):
        logger = logging.getLogger(f"zoo{number}")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.isEnabledFor(logging.INFO)
        loggers.append(logger)

    def body(logger):
        for _ in range(rounds):
            truth.timed("logging", logger.info, "x")

    together(*[lambda logger=logger: body(logger) for logger in loggers])
    truth.seconds["lock"] = truth.total("seconds")["logging"] - sum(handler.slept_s for handler in set(handlers))


def logging_handler():
    """Loggers that share one handler wait for its lock."""
    _log_through([SlowHandler()] * threads)


def logging_local():
    _log_through([SlowHandler() for _ in range(threads)])


def _pass_on(shared):
    for number in range(1000):
        shared.put(number)

    def body():
        for _ in range(200 * rounds):
            shared.put(shared.get())

    return body


def queue_mutex():
    """Many threads on one queue that is never empty or full: they contend for its mutex, and not for work."""
    together(*[_pass_on(queue.Queue())] * threads)


def queue_local():
    """The same, each with a queue of its own."""
    together(*[_pass_on(queue.Queue()) for _ in range(threads)])


def _import_together(modules, *, before=()):
    barrier, spent = threading.Barrier(2), []

    def body(module):
        barrier.wait()
        start = time.perf_counter()
        __import__(module)
        spent.append(time.perf_counter() - start)

    with tempfile.TemporaryDirectory() as folder:
        for module in modules:
            with open(os.path.join(folder, f"{module}.py"), "w") as file:
                file.write("import time; time.sleep(0.1)\n")
        sys.path.insert(0, folder)
        for module in before:
            __import__(module)
        together(*[lambda module=module: body(module) for module in modules])
    return spent


def imports():
    truth.seconds["import"] = min(_import_together(["zoo_slow", "zoo_slow"]))


def imports_local():
    """Imported before the threads start. Two modules at once would be no twin: free-threaded 3.13 itself makes one wait
    for the other now and then."""
    _import_together(["zoo_slow", "zoo_slow"], before=["zoo_slow"])


globals()[case]()
truth.tell()
