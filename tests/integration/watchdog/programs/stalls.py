"""stalls.py CASE: something stands still for longer than the limit, without a cycle."""

import ctypes
import sys
import threading
import time

SPIN = "void planted_spin(volatile int *stop) { while (!*stop) ; }\n"


def gil_forever():
    """C code spins with the GIL; nothing but a native thread can say so."""
    import os
    import subprocess
    import tempfile

    folder = tempfile.mkdtemp()
    with open(f"{folder}/spin.c", "w") as file:
        file.write(SPIN)
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", f"{folder}/libspin.so", f"{folder}/spin.c"], check=True)
    library = ctypes.PyDLL(f"{folder}/libspin.so")
    stop = ctypes.c_int()

    def spins():
        library.planted_spin(ctypes.byref(stop))

    threading.Timer(0.05, os.getpid).start()
    spins()


def long_wait():
    lock = threading.Lock()

    def holder():
        with lock:
            time.sleep(1.2)  # holder: holds

    def wants():
        with lock:  # wants: waits
            pass

    threads = [threading.Thread(target=body, name=body.__name__) for body in (holder, wants)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()


def standstill():
    threading.Event().wait()


globals()[sys.argv[1]]()
