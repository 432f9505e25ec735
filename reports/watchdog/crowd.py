"""crowd.py SECONDS: 1,000 threads that hold 10 locks each and wait; prints the share of one core the watchdog used."""

import os
import sys
import threading
import time

THREADS, LOCKS = 1000, 10


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
    go.wait()
    for lock in held:
        lock.release()


threading.stack_size(256 << 10)
go = threading.Event()
threads = [threading.Thread(target=body, args=(go,)) for _ in range(THREADS)]
for thread in threads:
    thread.start()
time.sleep(1)
start_ns, start = watchdogs_cpu_ns(), time.monotonic()
time.sleep(float(sys.argv[1]))
print((watchdogs_cpu_ns() - start_ns) / 1e9 / (time.monotonic() - start))
go.set()
for thread in threads:
    thread.join()
