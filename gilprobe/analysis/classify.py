"""From what the native core saw to what a reader calls it: contention of a kind, idling of a kind, or sleep and I/O.

The address tells the GIL, objects and the stopped world apart; for Python-visible locks the innermost Python frames
tell whether a thread contends or waits for work (Condition, Event, Queue.get, SimpleQueue.get and join are idle).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gilprobe.analysis.frames import Site, called_method, expression_at
from gilprobe.model import SLEEP_IO, IdleKind, WaitKind
from gilprobe.recording.schema import Op, Subject

IO_OPS = frozenset({Op.SLEEP, Op.POLL, Op.READ, Op.WRITE, Op.SYNC, Op.CHILD, Op.SIGNAL, Op.OTHER})
JOINS = frozenset({"Thread.join", "Thread._wait_for_tstate_lock", "_shutdown", "_ThreadHandle.join"})
# multiprocessing's semaphores are waited for in its own modules, joblib's (loky) in copies of them.
PROCESS_QUEUES = ("multiprocessing/queues.py", "loky/backend/queues.py")
PROCESS_LOCKS = ("multiprocessing/synchronize.py", "loky/backend/synchronize.py", *PROCESS_QUEUES)
WRITES_TO_PIPE = frozenset({"SimpleQueue.put", "Queue._feed"})  # under the lock that all writers of a queue share
QUEUES = ("/queue.py", "/multiprocessing/queues.py", "loky/backend/queues.py")
IDLE_METHODS = {
    "get": IdleKind.QUEUE,
    "join": IdleKind.JOIN,
    "wait": IdleKind.CONDITION,
    "result": IdleKind.CONDITION,
}


@dataclass(frozen=True, slots=True)
class Classified:
    kind: str

    @property
    def idle(self) -> bool:
        return self.kind in _IDLE

    @property
    def contention(self) -> bool:
        return self.kind in _CONTENTION


_IDLE = frozenset(IdleKind)
_CONTENTION = frozenset(WaitKind)


def classify(
    op: int,
    subject: int,
    type_name: str,
    sites: Sequence[Site],
    *,
    in_library: bool = False,
    free_threaded: bool = False,
    callers: Sequence[str] = (),
    timed: bool = False,
) -> Classified:
    """sites: the waiter's Python stack, innermost first; callers: file names of the libraries of its native frames.

    in_library: the address lies in a C library's static data. timed: the wait had a limit.
    """
    if subject == Subject.GIL:
        return Classified(WaitKind.GIL)
    if waits_for_transaction(op, callers):
        return Classified(WaitKind.NATIVE)
    if op in IO_OPS:
        return Classified(SLEEP_IO)
    if subject in (Subject.THREAD_STATE, Subject.STOP_THE_WORLD):
        return Classified(WaitKind.STOP_THE_WORLD)
    if op == Op.JOIN:
        return Classified(IdleKind.JOIN)
    if type_name.endswith("SimpleQueue") or (op == Op.SEM and any(name.startswith("_queue.") for name in callers)):
        return Classified(IdleKind.QUEUE)  # its get is C: told by the object it parks on, up to 3.12 by the caller
    if op in (Op.COND, Op.FUTEX):
        # A condition of a C++ library: its threads wait there for work, and others for its results.
        return Classified(IdleKind.CONDITION)
    if timed and op == Op.SEM and not sites and subject != Subject.RUNTIME:
        # A C thread's alarm clock, such as faulthandler.dump_traceback_later's: it waits to be called off.
        return Classified(IdleKind.CONDITION)
    if op == Op.YIELD and in_library:
        return Classified(WaitKind.NATIVE)
    if subject == Subject.OBJECT:
        kind = _idle_by_frames(sites, type_name)
        return Classified(kind if kind else WaitKind.OBJECT)
    shared_by_processes = op == Op.SEM and bool(sites) and sites[0].file.endswith(PROCESS_LOCKS)
    if op in (Op.MUTEX, Op.RWLOCK) or (in_library and not shared_by_processes) or subject == Subject.RUNTIME:
        return Classified(WaitKind.NATIVE)
    classified = _python_visible(op, subject, type_name, sites)
    inside = subject == Subject.HEAP or (op == Op.YIELD and subject == Subject.UNKNOWN)
    if free_threaded and sites and inside and classified.kind in (WaitKind.LOCK, WaitKind.NATIVE):
        # Locks that Python sees are objects there; this is one inside an object (a dict's keys, a buffered file), or
        # of the parking lot's bucket that the object's waiters queue in.
        return Classified(WaitKind.OBJECT)
    return classified


def waits_for_transaction(op: int, callers: Sequence[str]) -> bool:
    """SQLite sleeps between its tries for a file that another connection has locked (its busy handler)."""
    return op == Op.SLEEP and bool(callers) and callers[0].startswith(("libsqlite3", "_sqlite3"))


def _python_visible(op: int, subject: int, type_name: str, sites: Sequence[Site]) -> Classified:
    if not sites:
        return Classified(WaitKind.NATIVE)
    kind = _idle_by_frames(sites, type_name)
    if kind:
        return Classified(kind)
    innermost = sites[0]
    if innermost.file in ("<frozen importlib._bootstrap>",) or innermost.file.endswith("importlib/_bootstrap.py"):
        return Classified(WaitKind.IMPORT)
    if subject == Subject.UNKNOWN and op == Op.SEM:
        # Not from the interpreter: multiprocessing's semaphores, or a C library's.
        queue = next((site for site in sites[:2] if site.file.endswith(PROCESS_QUEUES)), None)
        if queue and queue.function not in WRITES_TO_PIPE:
            return Classified(IdleKind.QUEUE)
        return Classified(WaitKind.LOCK if innermost.file.endswith(PROCESS_LOCKS) else WaitKind.NATIVE)
    if subject != Subject.LOCK_OBJECT:
        kind = _idle_by_expression(sites)
        if kind:
            return Classified(kind)
    if op == Op.YIELD and subject == Subject.UNKNOWN:
        return Classified(WaitKind.NATIVE)
    return Classified(WaitKind.LOCK)


def _idle_by_expression(sites: Sequence[Site]) -> str | None:
    """A lock inside a C object (SimpleQueue) has no Python frame of its own: the call's name tells."""
    if not sites:
        return None
    return IDLE_METHODS.get(called_method(expression_at(sites[0].file, sites[0].position)))


def _idle_by_frames(sites: Sequence[Site], type_name: str) -> str | None:
    if not sites:
        return None
    innermost = sites[0]
    if innermost.file.endswith("gevent/_threading.py") and any(site.function == "Queue.get" for site in sites[:3]):
        return IdleKind.QUEUE  # a worker of gevent's own pool of threads
    if innermost.file.endswith("threading.py"):
        if innermost.function in JOINS:
            return IdleKind.JOIN
        if innermost.function == "Condition.wait" and not _takes_its_lock_back(innermost, type_name):
            return _work_waited_for(sites)
    elif _waits_for_jobs(innermost):
        return IdleKind.QUEUE
    elif innermost.file.endswith("multiprocessing/synchronize.py") and innermost.function == "Condition.wait":
        return IdleKind.CONDITION
    return None


def _takes_its_lock_back(wait: Site, type_name: str) -> bool:
    """A notified waiter must have the condition's own lock again, an RLock if none was given: that is contention."""
    return type_name.endswith("RLock") or called_method(expression_at(wait.file, wait.position)) == "_acquire_restore"


def _work_waited_for(sites: Sequence[Site]) -> str:
    for site in sites:
        if not site.file.endswith("threading.py"):
            return IdleKind.QUEUE if site.file.endswith(QUEUES) else IdleKind.CONDITION
    return IdleKind.CONDITION


def _waits_for_jobs(site: Site) -> bool:
    if site.file.endswith("multiprocessing/queues.py"):
        return True
    return site.file.endswith("concurrent/futures/thread.py") and site.function == "_worker"
