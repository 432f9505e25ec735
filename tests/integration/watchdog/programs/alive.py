"""alive.py CASE: a program that is slow, but goes on: nothing is to be told of a deadlock."""

import ctypes
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 0.5


def start(*bodies):
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    return threads


def join(threads):
    for thread in threads:
        thread.join()


def long_io():
    lock = threading.Lock()
    read, write = os.pipe()

    def reader():
        with lock:
            os.read(read, 1)

    def wants():
        with lock:
            pass

    threads = start(reader, wants, wants)
    time.sleep(SECONDS)
    os.write(write, b"x")
    join(threads)


def long_hold():
    lock, go = threading.Lock(), threading.Event()

    def holder():
        with lock:
            go.wait()

    def wants():
        with lock:
            pass

    threads = start(holder, wants)
    time.sleep(SECONDS)
    go.set()
    join(threads)


def long_native():
    """The GIL is kept in C code meanwhile, and others want it."""
    usleep = ctypes.PyDLL(None).usleep
    ticks = []

    def ticker():
        for _ in range(20):
            time.sleep(0.001)
            ticks.append(1)

    threads = start(ticker, ticker)
    for _ in range(2):
        usleep(int(SECONDS / 2 * 1e6))
    join(threads)


def crowd():
    lock = threading.Lock()
    end = time.monotonic() + SECONDS

    def wants():
        while time.monotonic() < end:
            with lock:
                time.sleep(0.002)

    join(start(*[wants] * 200))


def crowd_ends():
    """Who lets the lock go ends; for moments nobody has it, and all others wait."""
    lock = threading.Lock()

    def wants():
        with lock:
            time.sleep(SECONDS / 100)

    join(start(*[wants] * 200))


def stopped():
    """As in a debugger: the whole process stands still while threads wait for each other's locks."""
    lock = threading.Lock()
    if os.fork() == 0:
        time.sleep(0.2)
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(SECONDS)
        os.kill(os.getppid(), signal.SIGCONT)
        os._exit(0)

    def wants():
        for _ in range(200):
            with lock:
                time.sleep(0.002)

    join(start(wants, wants))
    os.wait()


def idle_workers():
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(time.sleep, [0.01] * 4))
        time.sleep(SECONDS)


def two_pools():
    """A worker waits for another pool's future, and main for the worker: the other pool is only busy."""
    with ThreadPoolExecutor(1) as inner, ThreadPoolExecutor(1) as outer:
        inner.submit(time.sleep, SECONDS)
        outer.submit(lambda: inner.submit(int).result()).result()


def signal_wakes():
    """All threads wait, and a handler in Python ends it."""
    event, lock = threading.Event(), threading.Lock()
    signal.signal(signal.SIGALRM, lambda *_: event.set())
    signal.setitimer(signal.ITIMER_REAL, SECONDS)

    def holds():
        with lock:
            event.wait()

    def wants():
        with lock:
            pass

    join(start(holds, wants))


def signal_wakes_what_others_have_used():
    """As above, of an Event that two threads wait for, each of which might have set it."""
    event, lock = threading.Event(), threading.Lock()
    signal.signal(signal.SIGALRM, lambda *_: event.set())
    signal.setitimer(signal.ITIMER_REAL, SECONDS)

    def holds():
        with lock:
            event.wait()

    def uses():
        time.sleep(0.1)
        event.is_set()
        with event._cond:
            pass
        with lock:
            pass

    join(start(holds, uses))


def signal_wakes_a_background_job():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal_wakes()


def lock_as_signal():
    """Taken twice by one thread, released by another: a signal made of a lock."""
    gate = threading.Lock()
    gate.acquire()

    def opens():
        time.sleep(SECONDS)
        gate.release()

    threads = start(opens)
    gate.acquire()
    join(threads)


def late_consumer():
    """Nobody has taken from the queue yet, and the only one that will still sleeps."""
    import queue

    items = queue.Queue(1)

    def puts():
        items.put(1)
        items.put(2)

    def takes():
        time.sleep(SECONDS)
        items.get()
        items.get()

    join(start(puts, takes))


def fork_in_thread():
    """The child lives until the thread that forked ends, and no longer."""
    import warnings

    warnings.simplefilter("ignore")

    def forks():
        child = os.fork()
        if child:
            os.waitpid(child, 0)

    join(start(forks))


def woken_without_a_core():
    """Woken, and ready to end the wait of the others, but for long other programs have its core."""
    import subprocess

    cpu = min(os.sched_getaffinity(0))
    busy = f"import os, time; os.sched_setaffinity(0, {{{cpu}}}); end = time.time() + {1 + SECONDS}\n"
    busy += "while time.time() < end: pass"
    lock, go = threading.Lock(), threading.Event()

    def holder():
        os.sched_setaffinity(0, {cpu})
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with lock:
            go.wait()

    def wants():
        with lock:
            pass

    threads = start(holder, wants)
    time.sleep(0.3)
    others = [subprocess.Popen([sys.executable, "-S", "-c", busy]) for _ in range(3)]
    time.sleep(0.3)
    go.set()
    join(threads)
    for other in others:
        other.wait()


globals()[sys.argv[1]]()
print("done")
