"""locks.py CASE [THREADS] [HOLD_MS] [ROUNDS]: locks that threads wait for, and locks that they do not."""

import logging
import os
import queue
import sys
import tempfile
import threading
import time

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


def releasers():
    """One waiter; two releasers who take turns, so that each ends a known number of its waits."""
    shared, ready = threading.Lock(), threading.Semaphore(0)

    def release_often():
        shared.release()

    def release_seldom():
        shared.release()

    def waiter():
        for _ in range(4 * rounds):
            ready.release()
            truth.timed("lock", shared.acquire)

    def releasing():
        for number in range(4 * rounds):
            ready.acquire()
            time.sleep(0.002)
            release = release_seldom if number % 4 == 0 else release_often
            truth.releases[release.__name__] += 1
            release()

    shared.acquire()
    together(waiter, releasing)


def logging_handler():
    class Slow(logging.Handler):
        def emit(self, record):
            time.sleep(hold_ms / 1e3)

    logger = logging.getLogger("zoo")
    logger.addHandler(Slow())
    logger.setLevel(logging.INFO)

    def body():
        for _ in range(rounds):
            start = time.perf_counter()
            logger.info("x")
            truth.seconds["lock"] += time.perf_counter() - start - hold_ms / 1e3

    together(*[body] * threads)


def queue_mutex():
    """Many threads on one queue that is never empty or full: they contend for its mutex, if for anything."""
    shared = queue.Queue()
    for number in range(1000):
        shared.put(number)

    def body():
        for _ in range(200 * rounds):
            shared.put(shared.get())

    together(*[body] * threads)
    truth.facts["contention_allowed"] = True


def imports():
    folder = tempfile.mkdtemp()
    with open(os.path.join(folder, "zoo_slow_module.py"), "w") as file:
        file.write("import time; time.sleep(0.1)\n")
    sys.path.insert(0, folder)
    barrier, spent = threading.Barrier(2), []

    def body():
        barrier.wait()
        start = time.perf_counter()
        __import__("zoo_slow_module")
        spent.append(time.perf_counter() - start)

    together(body, body)
    truth.seconds["import"] = min(spent)


globals()[case]()
truth.tell()
