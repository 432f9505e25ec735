"""workload.py CASE: does a slice of the work for each byte on standard input; each answer is a line: CPU s, wall s.

Runs in the target, recorder on or off: standard library only, and Pillow for the demo. Threads live on between slices.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

Work = Callable[[], object]


def uncontended(count: int) -> Work:
    lock = threading.Lock()

    def slice_of_work() -> None:
        for _ in range(count):
            with lock:
                pass

    return slice_of_work


def fstat(count: int) -> Work:
    def slice_of_work() -> None:
        for _ in range(count):
            os.fstat(0)

    return slice_of_work


def threads(count: int) -> Work:
    def slice_of_work() -> None:
        for _ in range(count):
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()

    return slice_of_work


def _two_threads(body: Work) -> Work:
    begin, end = threading.Barrier(3), threading.Barrier(3)

    def run() -> None:
        while True:
            begin.wait()
            body()
            end.wait()

    for _ in range(2):
        threading.Thread(target=run, daemon=True).start()

    def slice_of_work() -> None:
        begin.wait()
        end.wait()

    return slice_of_work


def tiny_lock(count: int) -> Work:
    lock = threading.Lock()

    def body() -> None:
        for _ in range(count // 2):
            with lock:
                pass

    return _two_threads(body)


def list_append(count: int) -> Work:
    shared: list[int] = []

    def body() -> None:
        for number in range(count // 2):
            shared.append(number)

    both = _two_threads(body)

    def slice_of_work() -> None:
        shared.clear()
        both()

    return slice_of_work


def queues(count: int) -> Work:
    shared: queue.Queue[int] = queue.Queue()

    def body() -> None:
        for number in range(count // 2):
            shared.put(number)
            shared.get()

    return _two_threads(body)


def cpu_bound(count: int) -> Work:
    def body() -> None:
        total = 0.5
        for _ in range(count // 2):
            total *= 1.0000001

    return _two_threads(body)


def thumbnails(count: int) -> Work:
    """The demo's own service in a pool of two; no picture is asked for again before the cache has dropped it."""
    from concurrent.futures import ThreadPoolExecutor

    sys.path.insert(0, str(Path(__file__).parent.parent / "demo"))
    from thumbnails import PICTURES, ThumbnailService  # type: ignore[import-not-found]

    service = ThumbnailService(PICTURES)
    sizes = [(160, 102), (320, 204), (64, 64)]
    wanted = cycle([(name, size) for name in service.names() for size in sizes])
    pool = ThreadPoolExecutor(2, thread_name_prefix="thumbnail")

    def slice_of_work() -> None:
        for future in [pool.submit(service.thumbnail, *request) for request in islice(wanted, count)]:
            future.result()

    return slice_of_work


# Of a slice, by all its threads together: 15 to 40 ms of CPU. The interpreter lets two threads take turns every 5 ms.
OPERATIONS = {
    "uncontended": 50_000,
    "fstat": 12_000,
    "threads": 150,
    "tiny_lock": 60_000,
    "list_append": 150_000,
    "queues": 10_000,
    "cpu_bound": 400_000,
    "thumbnails": 12,
}


def main() -> None:
    work: Work = globals()[sys.argv[1]](OPERATIONS[sys.argv[1]])
    while os.read(0, 1):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        os.write(1, b"%.9f %.9f\n" % (cpu, wall))


if __name__ == "__main__":
    main()
