"""holds.py CASE: locks held for long and for short times."""

import sys
import threading
import time

MANY, LONG_S = 50_000, 0.3


def run(*bodies):
    threads = [threading.Thread(target=body, name=body.__name__) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def long_among_short():
    """One long hold after so many short ones that not each of those is timed; a second thread waits for it."""
    lock, held = threading.Lock(), threading.Event()

    def holder():
        for _ in range(MANY):
            with lock:
                pass
        with lock:  # holder: holds
            held.set()
            time.sleep(LONG_S)

    def wants():
        held.wait()
        with lock:
            pass

    run(holder, wants)


def only_short():
    """The twin: it waits outside."""
    lock = threading.Lock()

    def holder():
        for _ in range(MANY):
            with lock:
                pass
        with lock:
            pass
        time.sleep(LONG_S)

    run(holder)


def reentrant():
    """An RLock is held from its first taking to its last release."""
    lock = threading.RLock()

    def outer():
        lock.acquire()  # outer: holds
        for _ in range(3):
            with lock:
                time.sleep(LONG_S / 3)
        lock.release()

    run(outer)


def condition():
    """A wait gives the lock back."""
    ready = threading.Condition()

    def waits():
        with ready:
            ready.wait(LONG_S)

    run(waits)


def still_held():
    lock = threading.Lock()

    def keeps():
        lock.acquire()  # keeps: holds

    run(keeps)
    time.sleep(LONG_S)


globals()[sys.argv[1]]()
