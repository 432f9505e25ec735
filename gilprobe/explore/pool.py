"""The OS threads that the code under test runs on, kept between runs, and what each is running."""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from gilprobe.explore.gates import Gate, make_gate
from gilprobe.explore.real import get_ident, raw_lock, raw_thread


class Abandon(BaseException):
    """Unwinds a thread of a run that is over."""


def unwind(ident: int) -> None:
    """Raises Abandon in a thread that is given up while it computes: a loop would never end.

    Not in one that sleeps in a call: what nobody fetches keeps the evaluation of all other threads slow (ceval_gil.c,
    SIGNAL_ASYNC_EXC), and on 3.11 a traced thread for ever at its next function. There the tracer raises it.
    """
    if sys.version_info >= (3, 12):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Abandon))
        return
    frame = sys._current_frames().get(ident)
    while frame is not None:
        if frame.f_trace is not None:
            frame.f_trace = _abandon
        frame = frame.f_back


def _abandon(_frame: FrameType, _event: str, _arg: Any) -> Any:
    raise Abandon


class Work(Protocol):
    """What a worker asks of the run it serves."""

    dead: bool
    tracer: Any
    locals: list[threading.local]

    def finish(self, task: Task) -> Gate | None: ...


class Task:
    """One thread of the code under test, on whichever OS thread of the pool runs it."""

    __slots__ = (
        "bit",
        "body",
        "deadline",
        "done",
        "error",
        "ident",
        "index",
        "name",
        "on_done",
        "op",
        "priority",
        "sleeps",
        "started_at",
        "steps",
        "thread",
        "timed_out",
        "wait_site",
        "waiting_for",
        "worker",
    )  # fmt: skip

    def __init__(self, index: int, name: str, body: Callable[[], Any], worker: Worker) -> None:
        self.index = index
        self.bit = 1 << index
        self.name = name
        self.body = body
        self.worker = worker
        self.ident = worker.ident
        self.done = False
        self.error: BaseException | None = None
        self.waiting_for: Any = None
        self.wait_site: list[tuple[str, str, int]] = []
        self.deadline: float | None = None
        self.timed_out = False
        self.sleeps = 0
        self.steps = 0  # change points passed, all of them counted
        self.priority = 0.0
        self.op = -1  # index of the operation it is in
        self.thread: threading.Thread | None = None
        self.started_at: tuple[str, str, int] | None = None  # file, qualified name, line
        self.on_done: list[Task] = []


def _nothing() -> None:
    pass


class Worker:
    """A pooled OS thread."""

    def __init__(self, pool: Pool, index: int) -> None:
        self.pool = pool
        self.index = index
        self.gate: Gate = make_gate()
        self.task: Task | None = None
        self.run: Work | None = None
        self.ident = 0
        self.native_id = 0
        self.thread = threading.Thread(name=f"explored-{index}", daemon=True)
        born = raw_lock()
        born.acquire()
        raw_thread(self._live, (born,))
        born.acquire()

    def _live(self, born: Any) -> None:
        with contextlib.suppress(Abandon):  # given up, just as it came out
            self._loop(born)

    def _loop(self, born: Any) -> None:
        self.ident = get_ident()
        self.native_id = _thread.get_native_id()
        threading._active[self.ident] = self.thread  # type: ignore[attr-defined]
        self.thread._ident = self.ident  # type: ignore[attr-defined]
        born.release()
        after: Gate | None = None  # whom the baton goes to
        while True:
            if after is None:
                self.gate.wait()
            else:
                self.gate.pass_to(after)
            run, task = self.run, self.task
            if run is None or task is None:
                return
            for local in run.locals:
                local.__dict__.clear()
            if run.tracer is not None:
                sys.settrace(run.tracer)
            try:
                if not run.dead:
                    task.body()
            except Abandon:
                pass
            except BaseException as error:
                task.error = error
            if run.tracer is not None:
                sys.settrace(None)
            self.task = self.run = None
            task.body = _nothing  # it holds the run, which would be a cycle
            after = run.finish(task)
            del run, task


class Pool:
    """The OS threads, kept between runs; one that is stuck in a call nobody controls is left behind."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []

    def worker(self, index: int) -> Worker:
        while len(self.workers) <= index:
            self.workers.append(Worker(self, len(self.workers)))
        return self.workers[index]

    def forget(self, worker: Worker) -> None:
        self.workers[worker.index] = Worker(self, worker.index)
        with contextlib.suppress(RuntimeError):
            worker.gate.open()  # should it ever come back, it ends

    def close(self) -> None:
        for worker in self.workers:
            worker.task = worker.run = None
            worker.gate.open()
            threading._active.pop(worker.ident, None)  # type: ignore[attr-defined]
        self.workers = []
