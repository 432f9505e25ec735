"""within.py CASE ROOT: gilprobe.watchdog in a program that is not recorded."""

import ctypes
import json
import sys
import threading

sys.path.insert(0, sys.argv[2])
sys.dont_write_bytecode = True
import gilprobe  # noqa: E402
import gilprobe.errors  # noqa: E402

ends = []


def run(*bodies):
    def guarded(body):
        try:
            body()
            ends.append("went on")
        except gilprobe.DeadlockError:
            ends.append("told")

    threads = [threading.Thread(target=guarded, args=(body,), name=body.__name__) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def opposite(meet):
    a, b = (threading.Lock() for _ in range(2))  # made here

    def first():
        with a:
            meet()
            with b:
                pass

    def second():
        with b:
            meet()
            with a:
                pass

    return first, second


def raises():
    with gilprobe.watchdog(limit_s=5, on_deadlock="raise") as dog:
        run(*opposite(threading.Barrier(2).wait))
    names = sorted(thread["name"] for thread in dog.deadlocks[0]["threads"])
    return [sorted(ends), names, len(dog.deadlocks), len(dog.stalls)]


def orders():
    answers = []
    with open(__file__) as file:
        lines = file.read().splitlines()
    made = f"within.py:{1 + next(i for i, line in enumerate(lines) if line.endswith('# made here'))}"
    for allowed in ((), ["other.py:1"], [made], ["opposite"]):
        with gilprobe.watchdog(allowed_orders=allowed) as dog:
            for body in opposite(int):
                run(body)
        answers.append(len(dog.inversions))
    return answers


def tables():
    """The method tables' bytes and the types' constructors before, during and after."""
    import _thread

    def table(kind):
        kind_bytes = bytes((ctypes.c_char * type.__basicsize__).from_address(id(kind)))
        methods = []
        for name in sorted(vars(kind)):
            descriptor = vars(kind)[name]
            if type(descriptor).__name__ == "method_descriptor":
                size = type(descriptor).__basicsize__
                words = (ctypes.c_uint64 * (size // 8)).from_address(id(descriptor))
                methods.append(bytes((ctypes.c_char * 32).from_address(words[OBJECT // 8 + 3])))
        return methods, kind_bytes[OBJECT + 8 :]

    kinds = [_thread.LockType, _thread.RLock]
    threading.RLock().acquire()
    before = [table(kind) for kind in kinds]
    with gilprobe.watchdog():
        with threading.Lock(), threading.RLock():
            during = [table(kind) for kind in kinds]
    after = [table(kind) for kind in kinds]
    return [before == after, before == during]


OBJECT = object.__basicsize__


def many_locks():
    """A million short-lived locks, each left locked."""
    with gilprobe.watchdog() as dog:
        for _ in range(1_000_000):
            threading.Lock().acquire()
        with open("/proc/self/statm") as file:
            kept = file.read().split()[1]
    return [len(dog.deadlocks) + len(dog.stalls) + len(dog.inversions), int(kept) * 4096 < 200e6]


def freed_while_held():
    with gilprobe.watchdog() as dog:
        for _ in range(100):
            lock = threading.Lock()
            lock.acquire()
            del lock
            with threading.Lock():
                pass
    return [len(dog.deadlocks) + len(dog.inversions)]


def words():
    answers = []
    for arguments in ({"limit_s": 0}, {"limit_s": "soon"}, {"limit_s": float("nan")}, {"on_deadlock": "panic"}):
        try:
            gilprobe.watchdog(**arguments)
        except (TypeError, gilprobe.errors.UsageError) as error:
            answers.append(type(error).__name__)
    return answers


def twice():
    with gilprobe.watchdog():
        try:
            with gilprobe.watchdog():
                return "no"
        except gilprobe.errors.UsageError:
            return "refused"


print(json.dumps(globals()[sys.argv[1]]()))
