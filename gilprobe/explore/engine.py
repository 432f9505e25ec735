"""A session: the code under test instrumented and patched, and runs executed one after another."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gilprobe.errors import UsageError
from gilprobe.explore.gates import Gate, make_gate
from gilprobe.explore.instrument import Instrument
from gilprobe.explore.patching import Patches
from gilprobe.explore.points import UnderTest
from gilprobe.explore.pool import Pool, Task
from gilprobe.explore.primitives import active
from gilprobe.explore.real import raw_monotonic
from gilprobe.explore.scheduler import Run, Strategy
from gilprobe.explore.timeouts import Unheeded

STALL_S = 1.0  # no change point for so long with the running thread asleep in the kernel: a call that nobody controls
BUSY_S = 20.0  # the same with the thread computing

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
        self.instrument = Instrument(self.under, every)
        self.patches = Patches(self.under, roots, restore_globals)
        self.pool = Pool()
        self.finished: Gate = make_gate()
        self.schedules = 0
        self.busy_s = BUSY_S
        self.early = False  # every timeout may end while other threads could go on
        self.unheeded = Unheeded(self.under)
        self._gc = gc.isenabled()

    def __enter__(self) -> Session:
        if active.run is not None or not _one_session.acquire(blocking=False):
            raise RuntimeError("gilprobe.explore is at work in this process already; one exploration at a time")
        self.pool.worker(3)
        self.patches.install()
        self.instrument.install()
        gc.disable()  # a collection at a random moment would run finalizers of earlier runs inside this one
        return self

    def __exit__(self, *exc: object) -> None:
        self.instrument.remove()
        self.patches.reset()
        self.patches.remove()
        self.pool.close()
        if self._gc:
            gc.enable()
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
        box: dict[str, Any] = {}
        run.spawn("main", lambda: _main(run, bodies, box))
        active.run = run
        try:
            lost = None if run.start(0.2) else self._wait(run)
            outcome = self._judge(run, bodies, box, lost)
        finally:
            if any(not t.done for t in run.tasks):
                _executors_log.disabled = True  # its workers would each log that they were unwound
                try:
                    if run.abandon(None if lost is None else lost[0], lost is not None and lost[2]):
                        self.finished = make_gate()  # those left behind may open theirs at any time
                finally:
                    _executors_log.disabled = False
            active.run = None
        outcome.run = run
        if "state" in box:  # not .get(): see restoring.py
            outcome.state = box["state"]
        return outcome

    def _wait(self, run: Run) -> tuple[Task, Site3, bool] | None:
        last = (-1, -1)
        since = raw_monotonic()
        asleep = busy = 0
        while not run.finished.wait_for(0.05):
            now = (run.points, run.index)
            if now != last:
                last, since, asleep, busy = now, raw_monotonic(), 0, 0
                continue
            task = run.current
            if task is None:
                continue
            if _asleep(task.worker.native_id):
                asleep += 1
            else:
                busy += 1
            waited = raw_monotonic() - since
            if (waited > STALL_S and asleep > 4 * busy) or waited > self.busy_s:
                if run.finished.wait_for(0):
                    return None
                return task, self._where(task), asleep <= 4 * busy
        return None

    def _where(self, task: Task) -> Site3:
        frame = sys._current_frames().get(task.ident)
        innermost = None
        while frame is not None:
            site = (frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_lineno or 0)
            if self.under.has(site[0]):
                return site
            if innermost is None and "gilprobe" + "/explore" not in site[0]:
                innermost = site
            frame = frame.f_back
        return innermost or ("?", "?", 0)

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


def _asleep(native_id: int) -> bool:
    """Whether the kernel has the thread sleeping (/proc/self/task/TID/stat, third field; see proc_pid_stat(5))."""
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/self/task/{native_id}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] in "SD"
    return False


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
