"""workload.py CASE: one loop; prints its own seconds. Runs in the target, recorder on or off: standard library only."""

import os
import queue
import sys
import threading
import time


def uncontended():
    lock = threading.Lock()
    start = time.process_time()
    for _ in range(300_000):
        with lock:
            pass
    return time.process_time() - start


def fstat():
    start = time.process_time()
    for _ in range(100_000):
        os.fstat(0)
    return time.process_time() - start


def threads():
    start = time.perf_counter()
    for _ in range(1000):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
    return time.perf_counter() - start


def _two(body):
    barrier = threading.Barrier(3)

    def run():
        barrier.wait()
        body()

    pair = [threading.Thread(target=run) for _ in range(2)]
    for thread in pair:
        thread.start()
    barrier.wait()
    start = time.perf_counter()
    for thread in pair:
        thread.join()
    return time.perf_counter() - start


def tiny_lock():
    lock = threading.Lock()

    def body():
        for _ in range(100_000):
            with lock:
                pass

    return _two(body)


def list_append():
    shared = []

    def body():
        for number in range(200_000):
            shared.append(number)

    return _two(body)


def queues():
    shared = queue.Queue()

    def body():
        for number in range(50_000):  # many times the interpreter's switch interval
            shared.put(number)
            shared.get()

    return _two(body)


def cpu_bound():
    def body():
        total = 0.5
        for _ in range(3_000_000):
            total *= 1.0000001

    start = time.process_time()
    _two(body)
    return time.process_time() - start


print(globals()[sys.argv[1]]())
