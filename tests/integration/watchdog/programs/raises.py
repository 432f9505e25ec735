"""raises.py CASE: two threads deadlock; one is told by gilprobe.DeadlockError, cleans up, and the other goes on."""

import os
import sys
import threading
import time
import warnings

ends = []


def run(*bodies):
    def guarded(body):
        try:
            body()
            ends.append("went on")
        except RuntimeError as error:
            ends.append(f"{type(error).__module__}.{type(error).__name__}")

    threads = [threading.Thread(target=guarded, args=(body,), name=body.__name__) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Up to 3.12 a join that an exception ends marks the joined thread as ended (threading._wait_for_tstate_lock).
    for _ in range(500):
        if len(ends) < len(threads):
            time.sleep(0.01)


def locks(make):
    a, b, meeting = make(), make(), threading.Barrier(2)

    def first():
        with a:
            meeting.wait()
            with b:
                pass

    def second():
        with b:
            meeting.wait()
            with a:
                pass

    run(first, second)


def after_fork():
    """The watchdog's thread is not there when Python counts threads, and is again when there is a lock to wait for."""
    warnings.simplefilter("always")
    for _ in range(3):
        if os.fork() == 0:
            os._exit(0)
        os.wait()
    locks(threading.Lock)


def joins():
    threads, ready = {}, threading.Barrier(2)

    def body(own, other):
        threads[own] = threading.current_thread()
        ready.wait()
        threads[other].join()

    def left():
        body("left", "right")

    def right():
        body("right", "left")

    run(left, right)


if sys.argv[1] in ("joins", "after_fork"):
    globals()[sys.argv[1]]()
else:
    locks(getattr(threading, sys.argv[1]))
print(sorted(ends))
