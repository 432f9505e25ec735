"""Models of what threads block on. All else of `threading`, `queue` and `concurrent.futures` runs as it is, on top.

Outside a controlled thread each of them behaves as an uncontended one, so that what a run built can be looked at.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from gilprobe.explore.pool import Abandon, Task
from gilprobe.explore.real import get_ident
from gilprobe.explore.scheduler import Run


class Active:
    """The run under way in this process; there is one at a time."""

    run: Run | None = None


active = Active()


def current() -> tuple[Run, Task] | None:
    run = active.run
    if run is None:
        return None
    task = run.current
    if task is None or task.ident != get_ident():
        return None
    return run, task


class LockSite(tuple[str, Any]):
    """A change point at a synchronisation operation: (kind, what). A tuple, as none of its making runs in Python."""

    __slots__ = ()

    @property
    def kind(self) -> str:
        return self[0]


class ModelLock:
    """threading.Lock."""

    reentrant = False

    def __init__(self) -> None:
        self.owner: Task | None = None
        self.count = 0
        self.waiters: list[Task] = []
        self.clock: dict[int, int] = {}

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not blocking and timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if timeout is not None and timeout < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        here = current()
        if here is None:
            if self.count and not self.reentrant and blocking:
                raise RuntimeError("a lock that a finished run left locked is acquired outside the run")
            self.count += 1
            return True
        run, task = here
        if self.reentrant and self.count and self.owner is task:
            self.count += 1
            return True
        run.point(task, LockSite(("acquire", self)))
        return self._take(run, task, blocking, None if timeout == -1 else timeout)

    def _take(self, run: Run, task: Task, blocking: bool, timeout: float | None) -> bool:
        end = None if timeout is None else run.now + timeout
        while self.count:
            if not blocking:
                return False
            self.waiters.append(task)
            woken = run.block(task, self, None if end is None else max(0.0, end - run.now))
            if task in self.waiters:
                self.waiters.remove(task)
            if not woken:
                if self.count:
                    return False
                break
        self.count = 1
        self.owner = task
        if run.observer is not None:
            run.observer.acquired(run, task, self)
        return True

    def release(self) -> None:
        here = current()
        if here is not None:
            run, task = here
            if not run.dead:
                if self.count == 0 or (self.reentrant and self.owner is not task):
                    raise RuntimeError("cannot release un-acquired lock" if self.reentrant else "release unlocked lock")
                if self.count == 1:
                    run.point(task, LockSite(("release", self)))
                    if run.observer is not None:
                        run.observer.released(run, task, self)
                    self._free(run)
                else:
                    self.count -= 1
                return
        self.count = max(0, self.count - 1)

    def _free(self, run: Run) -> None:
        self.count = 0
        self.owner = None
        for waiter in self.waiters:
            run.unblock(waiter)
        self.waiters.clear()

    def locked(self) -> bool:
        return self.count > 0

    def __enter__(self) -> bool:
        # acquire(), once more: this is the hot path
        run = active.run
        if run is not None and not self.reentrant:
            task = run.current
            if task is not None and task.ident == get_ident():
                run.point(task, LockSite(("acquire", self)))
                if self.count or run.observer is not None:
                    return self._take(run, task, True, None)
                self.count = 1
                self.owner = task
                return True
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        run = active.run
        if run is not None and self.count == 1 and not self.reentrant and run.observer is None and not run.dead:
            task = run.current
            if task is not None and task.ident == get_ident():
                run.point(task, LockSite(("release", self)))
                self.count = 0
                self.owner = None
                if self.waiters:
                    self._free(run)
                return
        self.release()

    # What threading.Condition asks of its lock.

    def _is_owned(self) -> bool:
        here = current()
        return self.count > 0 and (not self.reentrant or here is None or self.owner is here[1])

    def _release_save(self) -> tuple[int, Task | None]:
        state = (self.count, self.owner)
        here = current()
        if here is None or here[0].dead:
            self.count = 0
            return state
        run, task = here
        if run.observer is not None:
            run.observer.released(run, task, self)
        self._free(run)
        return state

    def _acquire_restore(self, state: tuple[int, Task | None]) -> None:
        here = current()
        if here is None or here[0].dead:
            return
        run, task = here
        self._take(run, task, True, None)
        self.count = state[0]

    def _at_fork_reinit(self) -> None:
        self.count = 0
        self.owner = None
        self.waiters.clear()

    def __repr__(self) -> str:
        return f"<{'locked' if self.count else 'unlocked'} {'RLock' if self.reentrant else 'Lock'}>"


class ModelRLock(ModelLock):
    """threading.RLock."""

    reentrant = True

    def _recursion_count(self) -> int:
        return self.count if self._is_owned() else 0


def sleep(seconds: float, /) -> None:
    here = current()
    if here is None:
        _original["sleep"](seconds)
        return
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    here[0].sleep(here[1], seconds)


def _virtual(name: str, per_s: float) -> Callable[[], Any]:
    real = getattr(time, name)

    def clock() -> Any:
        here = current()
        if here is None:
            return real()
        run = here[0]
        run.clock_reads += 1
        run.now += 1e-6  # time passes, or a loop until a deadline would never end
        return int(run.now * per_s) if per_s != 1.0 else run.now

    clock.__name__ = name
    return clock


_original: dict[str, Any] = {"sleep": time.sleep}
clocks = {
    **{name: _virtual(name, 1.0) for name in ("monotonic", "time", "perf_counter")},
    **{name: _virtual(name, 1e9) for name in ("monotonic_ns", "time_ns", "perf_counter_ns")},
}


def start_thread(thread: threading.Thread) -> None:
    """threading.Thread.start in a controlled thread."""
    here = current()
    if here is None:
        _original["start"](thread)
        return
    run, task = here
    if not getattr(thread, "_initialized", False):
        raise RuntimeError("thread.__init__() not called")
    if getattr(thread, "_explored", None) is not None:
        raise RuntimeError("threads can only be started once")
    if run.dead:
        raise Abandon
    run.point(task, LockSite(("start", thread)))

    def body() -> None:
        ident = get_ident()
        before = threading._active.get(ident)  # type: ignore[attr-defined]
        threading._active[ident] = thread  # type: ignore[attr-defined]
        thread._ident = ident  # type: ignore[attr-defined]
        thread._native_id = child.worker.native_id  # type: ignore[attr-defined]
        try:
            thread.run()
        except SystemExit:
            pass
        finally:
            threading._active[ident] = before  # type: ignore[attr-defined]

    child = run.spawn(thread.name, body, thread)
    thread._explored = child  # type: ignore[attr-defined]
    thread._started._flag = True  # type: ignore[attr-defined]


def join_thread(thread: threading.Thread, timeout: float | None = None) -> None:
    here = current()
    child: Task | None = getattr(thread, "_explored", None)
    if here is None or child is None:
        if child is None:
            _original["join"](thread, timeout)
        return
    run, task = here
    if child is task:
        raise RuntimeError("cannot join current thread")
    run.point(task, LockSite(("join", thread)))
    if not child.done:
        child.on_done.append(task)
        run.block(task, child, None if timeout is None else max(0.0, timeout))
    if child.done and run.observer is not None:
        run.observer.joined(run, task, child)


def thread_is_alive(thread: threading.Thread) -> bool:
    child: Task | None = getattr(thread, "_explored", None)
    if child is None:
        return bool(_original["is_alive"](thread))
    here = current()
    if here is not None:
        here[0].point(here[1], LockSite(("is_alive", thread)))
    return not child.done


class InOrder(set[Any]):
    """A set that is walked in the order of its making, not of addresses."""

    def __init__(self) -> None:
        super().__init__()
        self._order: list[Any] = []

    def add(self, item: Any) -> None:
        if item not in self:
            self._order.append(item)
        super().add(item)

    def __iter__(self) -> Iterator[Any]:
        return (item for item in self._order if item in self)


def init_executor(executor: Any, *args: Any, **kwargs: Any) -> None:
    """ThreadPoolExecutor.__init__: shutdown() joins its set of threads, in an order that differs from run to run."""
    _original["init"](executor, *args, **kwargs)
    if current() is not None:
        executor._threads = InOrder()


class PatchedThread:
    """Puts the methods on the classes themselves, so subclasses defined at any time have them."""

    names: ClassVar[dict[str, Any]] = {"start": start_thread, "join": join_thread, "is_alive": thread_is_alive}

    @classmethod
    def install(cls) -> None:
        for name, method in cls.names.items():
            _original[name] = getattr(threading.Thread, name)
            setattr(threading.Thread, name, method)
        _original["init"] = ThreadPoolExecutor.__init__
        ThreadPoolExecutor.__init__ = init_executor  # type: ignore[method-assign, assignment]

    @classmethod
    def remove(cls) -> None:
        for name in cls.names:
            setattr(threading.Thread, name, _original[name])
        ThreadPoolExecutor.__init__ = _original["init"]  # type: ignore[method-assign]
