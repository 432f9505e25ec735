"""What a zoo program knows of itself, printed as one JSON line. Runs in the target: standard library only."""

import json
import threading
import time
from collections import Counter


class Truth:
    """Seconds by kind as the program's own stopwatch has them, and who ended how many waits."""

    def __init__(self):
        self.seconds = Counter()
        self.releases = Counter()
        self.facts = {}

    def timed(self, kind, call, *arguments):
        start = time.perf_counter()
        try:
            return call(*arguments)
        finally:
            self.seconds[kind] += time.perf_counter() - start

    def tell(self):
        print(json.dumps({"seconds": self.seconds, "releases": self.releases, **self.facts}))


def together(*bodies):
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def kernel_seconds():
    """CPU and run delay of the calling thread, as the kernel has them."""
    with open(f"/proc/self/task/{threading.get_native_id()}/schedstat") as file:
        run_ns, delay_ns, _ = file.read().split()
    return (int(run_ns) + int(delay_ns)) / 1e9
