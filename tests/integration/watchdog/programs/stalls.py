"""stalls.py CASE: something stands still for longer than the limit, without a cycle."""

import ctypes
import sys
import threading
import time

SPIN = "void planted_spin(volatile int *flags) { flags[0] = 1; while (!flags[1]) ; }\n"


def spinner():
    """A C function that never ends, called without letting go of the GIL, or of the thread's state; and the flag that
    says that it has begun.
    """
    import subprocess
    import tempfile

    folder = tempfile.mkdtemp()
    with open(f"{folder}/spin.c", "w") as file:
        file.write(SPIN)
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", f"{folder}/libspin.so", f"{folder}/spin.c"], check=True)
    library, flags = ctypes.PyDLL(f"{folder}/libspin.so"), (ctypes.c_int * 2)()
    return lambda: library.planted_spin(flags), flags


def gil_forever():
    """C code spins with the GIL; nothing but a native thread can say so."""
    import os

    spin, _ = spinner()

    def spins():
        spin()

    threading.Timer(0.05, os.getpid).start()
    spins()


def woken_late():
    """Idle for longer than the limit, then without the GIL for less."""
    go, ready = threading.Event(), threading.Barrier(9)

    def idle():
        ready.wait()
        go.wait()

    threads = [threading.Thread(target=idle) for _ in range(8)]
    for thread in threads:
        thread.start()
    ready.wait()
    time.sleep(1.8)
    go.set()
    ctypes.PyDLL(None).usleep(400_000)  # keeps the GIL
    for thread in threads:
        thread.join()


def world_stopped():
    """Free-threaded: one asks all to pause, and one never does."""
    import gc

    spin, flags = spinner()

    def spins():
        spin()

    threading.Thread(target=spins, name="spins", daemon=True).start()
    while not flags[0]:
        time.sleep(0.01)
    gc.collect()  # MainThread: waits


def long_wait():
    lock, wanted = threading.Lock(), []

    def holder():
        with lock:  # holder: holds
            while not wanted:
                time.sleep(0.01)
            time.sleep(1.2)  # holder: holds

    def wants():
        while not lock.locked():
            time.sleep(0.01)
        wanted.append(True)
        with lock:  # wants: waits
            pass

    threads = [threading.Thread(target=body, name=body.__name__) for body in (holder, wants)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def standstill():
    threading.Event().wait()


def lost_wakeup(check=False, make=threading.RLock):
    condition, ready = threading.Condition(make()), []

    def waits():
        while not ready:
            time.sleep(0.01)
        with condition:
            if not (check and ready):
                condition.wait()  # waits: waits

    thread = threading.Thread(target=waits, name="waits")
    thread.start()
    with condition:
        ready.append(1)
        condition.notify_all()
    thread.join()


def lost_wakeup_of_a_plain_lock():
    lost_wakeup(make=threading.Lock)


def wakeup_kept():
    lost_wakeup(check=True)


def wakeup_after_a_wait():
    """Notified while it waited; then it waits for something that nobody was ever to notify."""
    condition, other = threading.Condition(), threading.Condition()

    def waits():
        with condition:
            condition.wait()
        with other:
            other.wait()

    thread = threading.Thread(target=waits)
    thread.start()
    while not condition._waiters:
        time.sleep(0.01)
    time.sleep(0.1)
    with condition:
        condition.notify_all()
    thread.join()


globals()[sys.argv[1]]()
