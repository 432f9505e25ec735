"""busy.py CASE [SECONDS]: threads that want the interpreter, one object, or the world to stand still."""

import gc
import os
import sys
import threading
import time
import zlib

from truth import Truth, kernel_seconds, together

truth = Truth()
case, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
end = time.perf_counter() + seconds


def spin():
    number = 0
    while time.perf_counter() < end:
        number += 1


def gil():
    together(spin, spin)
    truth.facts["contention"] = "gil"


def gil_shares():
    """Each thread's share of holding the GIL against its own CPU and run delay, less what it ran without the GIL."""
    shares = {}

    def measured(body):
        def run():
            start, before = time.perf_counter(), kernel_seconds()
            body()
            shares[threading.current_thread().name] = (kernel_seconds() - before) / (time.perf_counter() - start)

        return run

    def busy():
        spin()

    def half_busy():
        while time.perf_counter() < end:
            until = time.thread_time() + 0.01
            while time.thread_time() < until:
                pass
            time.sleep(0.01)

    which = {"busy": busy, "half_busy": half_busy}[sys.argv[3]]
    thread = threading.Thread(target=measured(which), name="subject")
    thread.start()
    thread.join()
    truth.facts["gil_share"] = shares


def native_code():
    """zlib releases the GIL: two threads in it hold it next to never."""
    data = os.urandom(1 << 20)

    def body():
        while time.perf_counter() < end:
            zlib.compress(data, 6)

    together(body, body)


def list_append():
    shared = []

    def body():
        while time.perf_counter() < end:
            for number in range(2000):
                shared.append(number)

    together(body, body)
    truth.facts["contention"], truth.facts["object_type"] = "object", "list"


def list_append_local():
    def body():
        own = []
        while time.perf_counter() < end:
            for number in range(2000):
                own.append(number)
            own.clear()

    together(body, body)


def dict_set():
    shared = {}

    def body():
        while time.perf_counter() < end:
            for number in range(2000):
                shared[number] = number

    together(body, body)
    truth.facts["contention"], truth.facts["object_type"] = "object", "dict"


def dict_set_local():
    def body():
        own = {}
        while time.perf_counter() < end:
            for number in range(2000):
                own[number] = number

    together(body, body)


def collect():
    keep = [[number] for number in range(200000)]

    def body():
        while time.perf_counter() < end:
            sum(range(100))

    def collects():
        while time.perf_counter() < end:
            gc.collect()

    together(body, collects)
    truth.facts["contention"], truth.facts["kept"] = "stop-the-world", len(keep)


globals()[case]()
truth.tell()
