"""planted.py CASE [fixed]: a program that deadlocks, or its twin that does not. Runs in the target.

A line on which a thread is stuck, or took what another needs, carries a mark: `# THREAD...: waits` or `holds`.
A deadlocked program prints the time at which it began and is left to be killed; a fixed one prints `done`.
"""

import ctypes
import gc
import os
import queue
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

warnings.simplefilter("ignore")  # of fork in a process with threads
FIXED = sys.argv[2:] == ["fixed"]


def run(*bodies):
    threads = [threading.Thread(target=body, name=body.__name__) for body in bodies]
    for thread in threads:
        thread.start()
    print(f"start {time.monotonic_ns()}", flush=True)
    for thread in threads:
        thread.join()


class Meeting:
    """Threads that have each taken their first lock meet here; a fixed program does not wait."""

    def __init__(self, parties):
        self.barrier = threading.Barrier(parties)

    def meet(self):
        if not FIXED:
            self.barrier.wait()


def abba():
    a, b, meeting = threading.Lock(), threading.Lock(), Meeting(2)

    def first():
        with a:  # first: holds
            meeting.meet()
            with b:  # first: waits
                pass

    def second():
        one, two = (a, b) if FIXED else (b, a)
        with one:  # second: holds
            meeting.meet()
            with two:  # second: waits
                pass

    run(first, second)


def ring():
    locks, meeting = [threading.Lock() for _ in range(3)], Meeting(3)

    def around(i, j):
        i, j = (min(i, j), max(i, j)) if FIXED else (i, j)
        with locks[i]:  # one two three: holds
            meeting.meet()
            with locks[j]:  # one two three: waits
                pass

    def one():
        around(0, 1)

    def two():
        around(1, 2)

    def three():
        around(2, 0)

    run(one, two, three)


def rlock_mix():
    a, b, meeting = threading.RLock(), threading.Lock(), Meeting(2)

    def first():
        with a:
            with a:
                meeting.meet()
                with b:  # first: waits
                    pass

    def second():
        one, two = (a, b) if FIXED else (b, a)
        one.acquire()  # second: holds
        meeting.meet()
        two.acquire()  # second: waits
        two.release()
        one.release()

    run(first, second)


def condition():
    outer, inner = threading.Lock(), threading.Condition()
    ready = threading.Event()
    state = []

    def waiter():
        if FIXED:
            ready.set()
            with inner:
                inner.wait_for(lambda: state)
            return
        with outer:  # waiter: holds
            with inner:
                ready.set()
                while not state:
                    inner.wait()  # waiter: waits

    def notifier():
        ready.wait()
        with outer:  # notifier: waits
            with inner:
                state.append(1)
                inner.notify()

    run(waiter, notifier)


def join_cycle():
    threads = {}
    started = threading.Barrier(3)

    def left():
        started.wait()
        threads["right"].join()  # left: waits

    def right():
        started.wait()
        if not FIXED:
            threads["left"].join()  # right: waits

    for body in (left, right):
        threads[body.__name__] = threading.Thread(target=body, name=body.__name__)
    for thread in threads.values():
        thread.start()
    print(f"start {time.monotonic_ns()}", flush=True)
    started.wait()
    for thread in threads.values():
        thread.join()


def import_lock():
    import builtins
    import tempfile

    folder = tempfile.mkdtemp()
    sys.path.insert(0, folder)
    with open(os.path.join(folder, "planted_module.py"), "w") as file:
        file.write("import builtins\nbuiltins.planted.importing.set()\nwith builtins.planted.lock:\n    pass\n")

    class Shared:
        lock, held, importing = threading.Lock(), threading.Event(), threading.Event()

    builtins.planted = Shared

    def importer():
        Shared.held.wait()
        import planted_module  # importer: holds

    def holder():
        if FIXED:
            Shared.held.set()
            Shared.importing.wait()
            import planted_module

            with Shared.lock:
                return
        with Shared.lock:  # holder: holds
            Shared.held.set()
            Shared.importing.wait()
            import planted_module  # holder: waits

    run(importer, holder)


def executor():
    def inner():
        return 1

    with ThreadPoolExecutor(2 if FIXED else 1, thread_name_prefix="pool") as pool:

        def outer():
            return pool.submit(inner).result()  # pool_0: waits

        result = pool.submit(outer)
        print(f"start {time.monotonic_ns()}", flush=True)
        result.result()


def full_queue():
    items = queue.Queue(1)

    def putter():
        for number in range(3):
            items.put(number)  # putter: waits

    thread = threading.Thread(target=putter, name="putter")
    thread.start()
    print(f"start {time.monotonic_ns()}", flush=True)
    if not FIXED:
        thread.join()  # MainThread: waits
    for _ in range(3):
        items.get()
    thread.join()


SOURCE = """
#include <pthread.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
void planted_lock(void) { pthread_mutex_lock(&mutex); }
void planted_unlock(void) { pthread_mutex_unlock(&mutex); }
"""


def native_library():
    folder = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"planted-{os.getuid()}-{os.getpid()}")
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/planted.c", "w") as file:
        file.write(SOURCE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", f"{folder}/libplanted.so", f"{folder}/planted.c"], check=True)
    return f"{folder}/libplanted.so"


def gil_mutex():
    path = native_library()
    releasing, keeping = ctypes.CDLL(path), ctypes.PyDLL(path)  # PyDLL keeps the GIL during a call
    locked = threading.Event()
    free_threaded = not getattr(sys, "_is_gil_enabled", lambda: True)()

    def holder():
        releasing.planted_lock()
        locked.set()
        time.sleep(0.1)
        if free_threaded:
            gc.collect()  # holder: waits
        releasing.planted_unlock()

    def keeper():
        locked.wait()
        time.sleep(0.02)
        (releasing if FIXED else keeping).planted_lock()  # keeper: waits
        releasing.planted_unlock()

    run(holder, keeper)


def fork():
    lock, held, go = threading.Lock(), threading.Event(), threading.Event()

    def holder():
        with lock:  # holder: holds
            held.set()
            go.wait()

    thread = threading.Thread(target=holder, name="holder")
    thread.start()
    held.wait()
    if FIXED:
        go.set()
        thread.join()
    child = os.fork()
    if child == 0:
        print(f"start {time.monotonic_ns()}", flush=True)
        with lock:  # MainThread: waits
            os._exit(0)
    os.waitpid(child, 0)
    go.set()
    thread.join()


def semaphore():
    a, b, meeting = threading.Semaphore(1), threading.BoundedSemaphore(1), Meeting(2)

    def first():
        with a:
            meeting.meet()
            with b:  # first: waits
                pass

    def second():
        one, two = (a, b) if FIXED else (b, a)
        with one:
            meeting.meet()
            with two:  # second: waits
                pass

    run(first, second)


def philosophers():
    forks, meeting = [threading.Lock() for _ in range(5)], Meeting(5)

    def dine(seat):
        left, right = seat, (seat + 1) % 5
        left, right = (min(left, right), max(left, right)) if FIXED else (left, right)
        with forks[left]:  # philosopher-0 philosopher-1 philosopher-2 philosopher-3 philosopher-4: holds
            meeting.meet()
            with forks[right]:  # philosopher-0 philosopher-1 philosopher-2 philosopher-3 philosopher-4: waits
                pass

    threads = [threading.Thread(target=dine, args=(seat,), name=f"philosopher-{seat}") for seat in range(5)]
    for thread in threads:
        thread.start()
    print(f"start {time.monotonic_ns()}", flush=True)
    for thread in threads:
        thread.join()


globals()[sys.argv[1]]()
print("done", flush=True)
