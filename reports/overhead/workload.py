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
Measured = Callable[[], tuple[float, float]]


def _whole_process(work: Work) -> Measured:
    def slice_of_work() -> tuple[float, float]:
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        return time.process_time() - cpu, time.perf_counter() - wall

    return slice_of_work


def uncontended(count: int) -> Measured:
    lock = threading.Lock()

    def loop() -> None:
        for _ in range(count):
            with lock:
                pass

    return _whole_process(loop)


def fstat(count: int) -> Measured:
    def loop() -> None:
        for _ in range(count):
            os.fstat(0)

    return _whole_process(loop)


def threads(count: int) -> Measured:
    def loop() -> None:
        for _ in range(count):
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()

    return _whole_process(loop)


def _two_threads(body: Work) -> Measured:
    """CPU of the two alone, from the first's start to the last's end: their waits for the slice are none of it."""
    begin, end = threading.Barrier(3), threading.Barrier(3)
    taken: list[tuple[float, float, float]] = []

    def run() -> None:
        while True:
            begin.wait()
            start, cpu = time.perf_counter(), time.thread_time()
            body()
            taken.append((time.thread_time() - cpu, start, time.perf_counter()))
            end.wait()

    for _ in range(2):
        threading.Thread(target=run, daemon=True).start()

    def slice_of_work() -> tuple[float, float]:
        taken.clear()
        begin.wait()
        end.wait()
        cpus, starts, ends = zip(*taken, strict=True)
        return sum(cpus), max(ends) - min(starts)

    return slice_of_work


def tiny_lock(count: int) -> Measured:
    lock = threading.Lock()

    def body() -> None:
        for _ in range(count // 2):
            with lock:
                pass

    return _two_threads(body)


def list_append(count: int) -> Measured:
    shared: list[int] = []

    def body() -> None:
        for number in range(count // 2):
            shared.append(number)

    both = _two_threads(body)

    def slice_of_work() -> tuple[float, float]:
        shared.clear()
        return both()

    return slice_of_work


def queues(count: int) -> Measured:
    shared: queue.Queue[int] = queue.Queue()

    def body() -> None:
        for number in range(count // 2):
            shared.put(number)
            shared.get()

    return _two_threads(body)


def cpu_bound(count: int) -> Measured:
    def body() -> None:
        total = 0.5
        for _ in range(count // 2):
            total *= 1.0000001

    return _two_threads(body)


def thumbnails(count: int) -> Measured:
    """The demo's own service in a pool of two; no picture is asked for again before the cache has dropped it."""
    from concurrent.futures import ThreadPoolExecutor

    sys.path.insert(0, str(Path(__file__).parent.parent / "demo"))
    from thumbnails import PICTURES, ThumbnailService  # type: ignore[import-not-found]

    service = ThumbnailService(PICTURES)
    sizes = [(160, 102), (320, 204), (64, 64)]
    wanted = cycle([(name, size) for name in service.names() for size in sizes])
    pool = ThreadPoolExecutor(2, thread_name_prefix="thumbnail")

    def loop() -> None:
        for future in [pool.submit(service.thumbnail, *request) for request in islice(wanted, count)]:
            future.result()

    return _whole_process(loop)


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
    work: Measured = globals()[sys.argv[1]](OPERATIONS[sys.argv[1]])
    while os.read(0, 1):
        os.write(1, b"%.9f %.9f\n" % work())


if __name__ == "__main__":
    main()
