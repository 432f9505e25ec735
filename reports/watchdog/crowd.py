"""crowd.py SECONDS [still|busy|apart]: 1,000 threads hold 10 locks each and wait for one Event (apart: each its own).

busy: 20 of them pass two locks around, and so wait for longer than the time between two checks. Prints the share of one
core that the watchdog used.
"""

import os
import sys
import threading
import time

THREADS, LOCKS, BUSY = 1000, 10, 20


def watchdogs_cpu_ns():
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/comm") as file:
            if file.read().strip() == "gilprobe-watch":
                with open(f"/proc/self/task/{task}/schedstat") as stat:
                    return int(stat.read().split()[0])
    return 0


def body(go):
    held = [threading.Lock() for _ in range(LOCKS)]
    for lock in held:
        lock.acquire()
    while how == "busy" and threading.current_thread() in first and not go.is_set():
        for lock in fought_over:
            with lock:
                time.sleep(0.013)
    go.wait()
    for lock in held:
        lock.release()


how = sys.argv[2] if len(sys.argv) > 2 else "still"
fought_over = [threading.Lock(), threading.Lock()]
threading.stack_size(256 << 10)
shared = threading.Event()
events = [threading.Event() if how == "apart" else shared for _ in range(THREADS)]
threads = [threading.Thread(target=body, args=(event,)) for event in events]
first = set(threads[:BUSY])
for thread in threads:
    thread.start()
time.sleep(1)
start_ns, start = watchdogs_cpu_ns(), time.monotonic()
time.sleep(float(sys.argv[1]))
print((watchdogs_cpu_ns() - start_ns) / 1e9 / (time.monotonic() - start))
for event in events:
    event.set()
for thread in threads:
    thread.join()
