"""What a zoo program knows of itself, printed as one JSON line. Runs in the target: standard library only."""

import json
import os
import threading
import time
from collections import Counter


class Truth:
    """Seconds by kind as the program's own stopwatch has them, the CPU within these, and who ended how many waits."""

    def __init__(self):
        self._own = threading.local()
        self._counters = []
        self.releases = Counter()
        self.facts = {}

    @property
    def seconds(self):
        """The calling thread's own: without the GIL, += from two threads would lose some."""
        return self._counter("seconds")

    def _counter(self, name):
        if not hasattr(self._own, name):
            setattr(self._own, name, Counter())
            self._counters.append((name, getattr(self._own, name)))
        return getattr(self._own, name)

    def total(self, name):
        together_s = Counter()
        for own_name, seconds in self._counters:
            for kind, value in seconds.items() if own_name == name else ():
                together_s[kind] += value
        return together_s

    def timed(self, kind, call, *arguments):
        start_cpu, start = time.thread_time(), time.perf_counter()
        try:
            return call(*arguments)
        finally:
            self.seconds[kind] += time.perf_counter() - start
            self._counter("cpu")[kind] += time.thread_time() - start_cpu

    def tell(self):
        print(
            json.dumps(
                {"seconds": self.total("seconds"), "cpu": self.total("cpu"), "releases": self.releases, **self.facts}
            )
        )


def together(*bodies):
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class KernelClock:
    """CPU and run delay of the thread that made it, in seconds, less those of what ran in `away`."""

    def __init__(self):
        self._schedstat = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        self._away_s = 0.0
        self._start, self._start_wall = self._now(), time.perf_counter()

    def _now(self):
        # schedstat's own CPU column lags by up to a tick; its run delay does not.
        delay_ns = int(os.pread(self._schedstat, 100, 0).split()[1])
        return time.thread_time() + delay_ns / 1e9

    def away(self, call, *arguments):
        """A call that gives up the GIL for as long as it takes."""
        start = self._now()
        call(*arguments)
        self._away_s += self._now() - start

    def share(self):
        """Of the wall time since it was made."""
        elapsed = time.perf_counter() - self._start_wall
        return (self._now() - self._start - self._away_s) / elapsed
