"""A session: the code under test instrumented and patched, and runs executed one after another."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gilprobe.errors import UsageError
from gilprobe.explore.gates import Gate, make_gate
from gilprobe.explore.instrument import Instrument
from gilprobe.explore.patching import Patches
from gilprobe.explore.points import HERE, UnderTest
from gilprobe.explore.pool import Pool, Task
from gilprobe.explore.primitives import active
from gilprobe.explore.scheduler import Run, Strategy
from gilprobe.explore.stalled import LOOK_S, Stillness
from gilprobe.explore.timeouts import Unheeded

BUSY_S = 20.0  # of a thread's processor time without a change point: it goes on for ever
SWITCH_INTERVAL_S = 1e-4  # after which a thread that nobody controls lets the GIL go, at each pass of the baton
TURNS = 60  # times that a thread which waits for its turn may look stuck

Site3 = tuple[str, str, int]  # file, qualified name, line


@dataclass(slots=True)
class Bodies:
    """What one run executes: `setup` makes the shared state, each body gets it, `final` judges it."""

    setup: Callable[[], Any]
    bodies: list[Callable[[Any, Task], Any]]
    names: list[str]
    final: Callable[[Any], Any] | None = None


@dataclass(slots=True)
class Outcome:
    """What a run showed. `oracle` None: nothing wrong."""

    oracle: str | None = None
    error: BaseException | None = None
    culprit: str = ""
    stuck: list[Task] = field(default_factory=list)
    uncontrolled: Site3 | None = None
    busy: bool = False  # uncontrolled, and not asleep
    inconclusive: bool = False
    run: Run = None  # type: ignore[assignment]
    state: Any = None

    @property
    def failed(self) -> bool:
        return self.oracle is not None


class Session:
    """Patches and instruments on entry; everything is real again afterwards.

    restore_globals: module globals start each run as they are now, as attributes of classes do.
    """

    def __init__(
        self, files: Iterable[str], roots: Iterable[Any], every: bool = False, restore_globals: bool = True
    ) -> None:
        self.under = UnderTest(set(files))
        self.patches = Patches(self.under, roots, restore_globals)
        self.instrument = Instrument(self.under, self.patches.meet, every)
        self.pool = Pool()
        self.finished: Gate = make_gate()
        self.schedules = 0
        self.busy_s = BUSY_S
        self.early = False  # every timeout may end while other threads could go on
        self.unheeded = Unheeded(self.under)
        self._gc = gc.isenabled()
        self._switch_interval_s = sys.getswitchinterval()

    def __enter__(self) -> Session:
        if active.run is not None or not _one_session.acquire(blocking=False):
            raise RuntimeError("gilprobe.explore is at work in this process already; one exploration at a time")
        self.pool.worker(3)
        self.patches.install()
        self.instrument.install()
        gc.disable()  # a collection at a random moment would run finalizers of earlier runs inside this one
        sys.setswitchinterval(min(self._switch_interval_s, SWITCH_INTERVAL_S))
        return self

    def __exit__(self, *exc: object) -> None:
        self.instrument.remove()
        self.patches.reset()
        self.patches.remove()
        self.pool.close()
        if self._gc:
            gc.enable()
        sys.setswitchinterval(self._switch_interval_s)
        _one_session.release()

    def execute(self, bodies: Bodies, strategy: Strategy, observer: Any = None) -> Outcome:
        """One schedule."""
        self.schedules += 1
        if self.schedules % 200 == 0:
            gc.collect(0 if self.schedules % 2000 else 2)
        self.patches.reset()
        run = Run(self.pool, strategy, self.finished, self.instrument.tracer, observer)
        run.locals = self.patches.locals
        run.early = self.early
        run.unheeded = self.unheeded
        run.under = self.under
        box: dict[str, Any] = {}
        run.spawn("main", lambda: _main(run, bodies, box))
        active.run = run
        processes = set(_processes())
        outcome: Outcome | None = None
        lost = None
        try:
            if not run.start(0.2):
                lost = self._wait(run)
            outcome = self._judge(run, bodies, box, lost)
        finally:
            if any(not t.done for t in run.tasks):
                _executors_log.disabled = True  # its workers would each log that they were unwound
                try:
                    if run.abandon(None if lost is None else lost[0], lost is not None and lost[2]):
                        self.finished = make_gate()  # those left behind may open theirs at any time
                        if lost is None and outcome is not None and not outcome.failed:
                            outcome.inconclusive = True  # and may still do something
                finally:
                    _executors_log.disabled = False
                    active.run = None
            active.run = None
            if len(_processes()) > len(processes):
                _end(_processes() - processes)
        outcome.run = run
        if "state" in box:  # not .get(): see restoring.py
            outcome.state = box["state"]
        return outcome

    def _wait(self, run: Run) -> tuple[Task, Site3, bool] | None:
        last: Any = None
        still: Stillness | None = None
        turns = 0
        while not run.finished.wait_for(LOOK_S):
            task = run.current
            now = (run.points, run.index, task)
            if task is None:
                continue
            if now != last:
                last, still, turns = now, None, 0
            if still is None:
                still = Stillness(task.worker.native_id, self.busy_s)
            elif still.look():
                where, ours = self._where(task)
                turns += 1
                if (run.points, run.index, run.current) != last or (ours and still.asleep and turns < TURNS):
                    still = None
                    continue
                return None if run.finished.wait_for(0) else (task, where, not still.asleep)
        return None

    def _where(self, task: Task) -> tuple[Site3, bool]:
        """Its innermost line under test, else where that started it; whether it is in a call of the explorer's own."""
        innermost = frame = sys._current_frames().get(task.ident)
        ours = innermost is not None and innermost.f_code.co_filename.startswith(HERE)
        while frame is not None and not self.under.has(frame.f_code.co_filename):
            frame = frame.f_back
        if frame is None and task.started_at is not None:
            return task.started_at, ours
        frame = frame or innermost
        if frame is None:
            return ("?", task.name, 0), ours
        return (frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_lineno or 0), ours

    def _judge(self, run: Run, bodies: Bodies, box: dict[str, Any], lost: tuple[Task, Site3, bool] | None) -> Outcome:
        if lost is not None:
            return Outcome(uncontrolled=lost[1], busy=lost[2])
        if run.livelock:
            return Outcome(inconclusive=True)
        if "setup_error" in box:
            error: Exception = box["setup_error"]
            raise UsageError(
                f"what the threads would share cannot be made: {type(error).__name__}: {error}",
                "it must be made by one thread alone before threads can share it",
            ) from error
        for task in run.tasks[1:]:
            if task.error is not None:
                return Outcome("exception", task.error, task.name)
        main = run.tasks[0]
        if not main.done:
            stuck = [t for t in run.stuck if t is not main] or [main]
            return Outcome(self._stuck_oracle(run, stuck), None, stuck[0].name, stuck)
        if main.error is not None:
            return Outcome("invariant", main.error, "final")
        return Outcome()

    def _stuck_oracle(self, run: Run, stuck: list[Task]) -> str:
        for task in stuck:
            names = {name for _, name, _ in task.wait_site}
            if "Condition.wait" in names and not names & _NO_WAKEUPS:
                return "lost-wakeup"
        return "deadlock"


_NO_WAKEUPS = {"Barrier.wait", "Semaphore.acquire", "Queue.get", "Queue.put", "Future.result"}  # built on a condition
_executors_log = logging.getLogger("concurrent.futures")
_one_session = threading.Lock()


def _main(run: Run, bodies: Bodies, box: dict[str, Any]) -> None:
    main = run.tasks[0]
    run.paused += 1
    try:
        box["state"] = state = bodies.setup()
    except Exception as error:
        box["setup_error"] = error
        return
    children: list[Task] = []
    for name, body in zip(bodies.names, bodies.bodies, strict=True):
        children.append(run.spawn(name, lambda: None))
        children[-1].body = _bound(body, state, children[-1])
    run.paused -= 1
    for child in children:
        if not child.done:
            child.on_done.append(main)
            run.block(main, child, None)
        if run.observer is not None:
            run.observer.joined(run, main, child)
    if len(run.tasks) > len(children) + 1:
        # What threads of the code's own still work on counts as done at the end: wait until none can go on.
        run.block(main, "quiet", 0.0)
    run.paused += 1
    if any(child.error is not None for child in children):
        return
    if bodies.final is not None:
        bodies.final(state)


def _bound(body: Callable[[Any, Task], Any], state: Any, task: Task) -> Callable[[], Any]:
    return lambda: body(state, task)


def _processes() -> set[Any]:
    """The child processes of multiprocessing that nobody joined yet."""
    return getattr(sys.modules.get("multiprocessing.process"), "_children", _NONE)


_NONE: set[Any] = set()


def _end(processes: set[Any]) -> None:
    """What outlives its schedule: the interpreter would wait for it when it ends."""
    for process in processes:
        with contextlib.suppress(AttributeError, ValueError, AssertionError):  # half started, closed, not ours
            process.kill()
            process.join()


def files_of(*things: Any) -> Iterator[str]:
    """The source files of functions and classes."""
    for thing in things:
        while hasattr(thing, "__wrapped__"):
            thing = thing.__wrapped__
        code = getattr(getattr(thing, "__func__", thing), "__code__", None)
        if code is not None:
            yield code.co_filename
        elif isinstance(thing, type):
            for value in vars(thing).values():
                code = getattr(getattr(value, "__func__", value), "__code__", None)
                if code is not None and not code.co_filename.startswith("<string"):
                    yield code.co_filename
            module = sys.modules.get(thing.__module__)
            if getattr(module, "__file__", None):
                yield module.__file__  # type: ignore[union-attr, misc]
        elif hasattr(thing, "func"):
            yield from files_of(thing.func)
        elif thing is not None and not callable(thing):
            yield from files_of(type(thing))
