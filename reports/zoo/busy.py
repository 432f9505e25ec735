"""busy.py CASE [SECONDS]: threads that want the interpreter, one object, or the world to stand still."""

import ctypes
import gc
import os
import sys
import threading
import time
import zlib

from truth import KernelClock, Truth, together

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
    """A thread alone holds the GIL for its own CPU and run delay, less those of calls that give it up."""

    def busy(clock):
        spin()

    def half_busy(clock):
        while time.perf_counter() < end:
            until = time.thread_time() + 0.01
            while time.thread_time() < until:
                pass
            clock.away(time.sleep, 0.01)

    def native(clock):
        library, data = ctypes.CDLL(None), ctypes.create_string_buffer(1 << 26)
        library.memchr.argtypes = ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
        while time.perf_counter() < end:
            clock.away(library.memchr, data, 1, len(data))

    def measured():
        clock = KernelClock()
        {"busy": busy, "half_busy": half_busy, "native": native}[sys.argv[3]](clock)
        truth.facts["gil_share"] = clock.share()

    thread = threading.Thread(target=measured, name="subject")
    thread.start()
    thread.join()


def native_code():
    """zlib releases the GIL: two threads in it hold it next to never."""
    data = os.urandom(1 << 20)

    def body():
        while time.perf_counter() < end:
            zlib.compress(data, 6)

    together(body, body)


def naps():
    """Eight threads that fall asleep and wake some ten thousand times a second, often with no core free for them."""

    def body():
        while time.perf_counter() < end:
            time.sleep(0)
            sum(range(50))

    together(*[body] * 8)


def turns():
    """Eight threads that let go of the interpreter and want it back at once."""

    def body():
        while time.perf_counter() < end:
            os.fstat(0)

    together(*[body] * 8)


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


def collect_never():
    keep = [[number] for number in range(200000)]
    gc.freeze()
    gc.disable()

    def body():
        while time.perf_counter() < end:
            sum(range(100))

    together(body, body)
    truth.facts["kept"] = len(keep)


globals()[case]()
truth.tell()
