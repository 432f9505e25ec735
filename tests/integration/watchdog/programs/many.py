"""many.py CASE: more locks than the watchdog has room for."""

import sys
import threading

ALIVE, HELD, SHORT = 100_000, 100, 1_000_000


def alive():
    """All alive at once, some of them held together."""
    locks = [threading.Lock() for _ in range(ALIVE)]
    for lock in locks[:HELD]:
        lock.acquire()
    for lock in locks[:HELD]:
        lock.release()


def short_lived():
    """One after the other, properly released."""
    for _ in range(SHORT):
        with threading.Lock():
            pass


def kibibytes():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


before = kibibytes()
globals()[sys.argv[1]]()
print(kibibytes() - before)
