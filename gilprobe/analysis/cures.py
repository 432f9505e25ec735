"""What to do about a finding, in plain words that fit the build."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gilprobe.analysis.contention import MANAGERS_LOCK
from gilprobe.analysis.object_names import IMPORTED
from gilprobe.model import HotObject, Wait, WaitKind

CONTAINERS = frozenset({"list", "dict", "set", "collections.deque", "bytearray", "collections.defaultdict"})
UNTRACKED = frozenset({"str", "bytes", "int", "float", "complex", "bool"})  # the collector knows none of them
ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc", "hoard", "libc.so", "libc-2")
LINEAR_ALGEBRA = ("openblas", "libblis", "libmkl")
LONG_HOLD_S = 0.0002
ONE_CORE = 0.9
NAME = re.compile(r"[A-Za-z_]\w* in ")  # a plain variable, as contention names things: `settings in body`


def minor_version(python: str) -> int:
    """14 of `3.14.7t`; 0 where it is not known."""
    parts = python.split(".")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0


def of_wait(waits: Sequence[Wait]) -> str:
    """waits: all of one finding, for the same thing."""
    first = waits[0]
    match first.kind:
        case WaitKind.OBJECT:
            return _of_object(first.object_type)
        case WaitKind.STOP_THE_WORLD:
            return (
                "Garbage collection, setting a class attribute and starting the first thread stop every thread: "
                "collect less often (gc.freeze after start-up, a higher gc.set_threshold), set class attributes early."
            )
        case WaitKind.IMPORT:
            return "Import the module before the threads start."
        case WaitKind.NATIVE:
            return _of_native(first.name)
        case _:
            return _of_lock(waits)


def _of_object(object_type: str) -> str:
    if object_type == "cell":
        return (
            "A variable of an enclosing function is read by all threads: bind it to a local, or pass it as an "
            "argument, before the loop."
        )
    if object_type == "dict":
        return (
            "Each operation locks the whole dict: give each thread its own and merge at the end, or split it by key "
            "into several."
        )
    if object_type in ("list", "collections.deque"):
        return (
            f"Each operation locks the {object_type.rpartition('.')[2]} itself: let each thread fill its own and join "
            "them at the end, or add in batches with extend."
        )
    return (
        f"Each operation locks the {object_type or 'object'} itself: give each thread its own and merge at the end, or "
        "pass work in batches."
    )


def _of_native(name: str) -> str:
    if any(allocator in name for allocator in ALLOCATORS):
        return of_allocator()
    if "SQLite" in name:
        return (
            "One connection at a time writes to an SQLite file, and the others sleep and try again: keep transactions "
            "short and write many rows in each, let one thread write, or set PRAGMA journal_mode=WAL."
        )
    if "sqlite3" in name:
        return "A connection serves one thread at a time: give each thread a connection of its own."
    if any(library in name.lower() for library in LINEAR_ALGEBRA):
        return (
            "The library spreads each call over threads of its own, one call at a time: where the program has threads, "
            "give the library one (OPENBLAS_NUM_THREADS=1, or threadpoolctl.threadpool_limits(1))."
        )
    return "The library serialises its callers: give each thread an instance of its own where the library can."


def _of_lock(waits: Sequence[Wait]) -> str:
    if any(wait.name.startswith(MANAGERS_LOCK) for wait in waits):
        return (
            "A thread of the manager waits here for a process that has asked for the lock: hold it for less, and "
            "prefer multiprocessing.Lock, which needs no messages and is named by the lines that take it."
        )
    files = {frame.file for wait in waits for frame in wait.waiter[:2]}
    if any(file.endswith("/queue.py") for file in files):
        return (
            "Every put and get takes the queue's one lock: pass lists of items, so that a batch costs one put and one "
            "get, or give each worker a queue of its own."
        )
    if any("/logging/" in file for file in files):
        return (
            "Threads log through one handler, which holds its lock while it writes: hand records to a "
            "logging.handlers.QueueHandler and write them in one thread, or log less."
        )
    count = sum(wait.count for wait in waits)
    mean_s = sum(wait.contended_s for wait in waits) / max(1, count)
    if mean_s >= LONG_HOLD_S:
        return (
            "The lock is held for long: move work out of it (I/O and computing above all): copy under the lock, work "
            "outside, store under the lock; or split the lock by key."
        )
    return (
        "The lock is taken often and held shortly: take it once for a batch, keep a tally in each thread and add it up "
        "now and then, or split the lock by key."
    )


def of_allocator() -> str:
    return (
        "The memory allocator serialises the threads: give it more arenas (MALLOC_ARENA_MAX, for jemalloc "
        "MALLOC_CONF=narenas:N), let it keep what is freed (MALLOC_TRIM_THRESHOLD_), or reuse buffers."
    )


def of_deadlock(kinds: Sequence[str], alike: bool) -> str:
    """kinds: what each of its threads waits for, as the watchdog names it. alike: one line takes several of them."""
    if set(kinds) <= {"lock", "native", "gil", "import"}:
        if alike:
            return (
                "One line takes different locks, in an order that its caller chooses: sort them first by what never "
                "changes (a number, id()), and take them in that order in every thread."
            )
        return (
            "Take these locks in one order in every thread, or never hold one while taking the other; where neither "
            "can be, take the second with acquire(timeout=...), and let go of the first and try anew when that fails."
        )
    return (
        "Wait for other threads (join, result, get, put, wait) only where none of what they need is held, and with a "
        "timeout, so that the thread can let go and try anew."
    )


def of_open_wait(watched: bool) -> str:
    if watched:
        return (
            "The watchdog saw no deadlock in it: somebody holds it for long. Hold it for less, or wait with a timeout."
        )
    return "Record with --watchdog: it tells whether this is a deadlock, and who holds what."


def of_busy_cores(got: float) -> str:
    """got: cores that all threads had together, on average."""
    if got < ONE_CORE:
        return (
            "The threads together had less than one core, so they did not crowd each other out: something else ran "
            "here, or a CPU quota held them back. Run it alone: the other waits are longer for it."
        )
    return "More threads want to run than there are free cores: use fewer, or look for what else runs here."


def of_stolen() -> str:
    return (
        "This is a virtual machine, and its host was busy with others (steal time): measure again when it is quieter, "
        "or on cores of your own. No change to the program helps."
    )


def of_permits() -> str:
    return (
        "As many threads go on as the semaphore has permits: give a permit back earlier (hold it only around what it "
        "limits), raise the limit if what it protects can serve more, or start fewer threads: more bring nothing."
    )


def of_gil(free_threaded: bool) -> str:
    if free_threaded:
        return "The GIL is on in this free-threaded build: gilprobe doctor MODULE names the import that turned it on."
    return (
        "Python code of one process runs on one core here: move the work into code that releases the GIL, into "
        "processes, or to a free-threaded build. The lines below held it while others waited."
    )


def of_hot_object(hot: HotObject, python: str) -> str:
    """On 3.13 reading a local counts too; from 3.14 on the interpreter borrows most locals (LOAD_FAST_BORROW)."""
    if hot.kind == IMPORTED:
        return (
            "An import statement looks its module up each time it runs, and counts references to objects that all "
            "threads share (sys.modules, the module, its spec): import at the top of the file, outside the function."
        )
    why = "Every access changes its reference count, which all threads share: "
    kind = hot.object_type
    if kind == "cell":
        return why + "bind the enclosing function's variable to a local, or pass it as an argument, before the loop."
    if kind in ("method", "builtin_function_or_method"):
        return why + "let each thread bind the method itself (work = thing.method in the thread's function)."
    if kind == "str":
        return why + "intern it once (sys.intern): interned strings are not counted on free-threaded builds."
    if kind in UNTRACKED:
        return why + "make it a literal of the code, which is not counted on free-threaded builds, or copy it a thread."
    steps = [
        "give each thread its own and merge at the end"
        if kind in CONTAINERS
        else "give each thread a copy of its own (copy.deepcopy)"
    ]
    if minor_version(python) >= 14:
        where = "the global or closure variable" if NAME.match(hot.name) else "what it holds"
        steps.append(f"bind {where} to a local before the loop")
        steps.append("or defer its counting (PyUnstable_Object_EnableDeferredRefcount through ctypes.pythonapi)")
    else:
        steps.append("bind what is read from it to a local outside the loop and read that less often")
    return why + ", ".join(steps) + "."
