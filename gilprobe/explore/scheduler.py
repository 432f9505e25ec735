"""One run of some threads under control: pooled OS threads pass a baton, so exactly one of them executes at a time.

All state of a `Run` is written by the holder of the baton only. Passing it is a release and an acquire of a raw lock,
which orders the accesses without the GIL too; after giving the baton away a thread touches nothing but its own gate.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Protocol

from gilprobe.explore.gates import Gate
from gilprobe.explore.pool import Abandon, Pool, Task, unwind
from gilprobe.explore.stalled import LOOK_S, Stillness

FREE: Final = (
    1 << 60
)  # in a trace entry: choosing another thread here is no preemption (the running one could not go on)
SPIN_LIMIT: Final = 1_000  # decisions in a row by one thread while others could run: it is spinning, let them
STEP_LIMIT: Final = 60_000  # decisions in one run: taken for a livelock
POINT_LIMIT: Final = 2_000_000  # change points in one run, decisions or not: an endless loop of a thread on its own
UNWIND_S: Final = 1.0  # of processor time that a thread may take to end
SELF_WAKES: Final = 3  # sleeps of a thread that may end at once while others could run; more would never end a poll


class Strategy(Protocol):
    """What decides at each point where more than one thread could go on."""

    eager: bool  # asked at every choice that is free, and soon after a thread becomes able to go on

    def begin(self, run: Run) -> None: ...

    def pick(self, run: Run, current: Task | None, choices: int, default: Task) -> Task: ...


class Run:
    """One schedule of one set of bodies."""

    def __init__(
        self, pool: Pool, strategy: Strategy, finished: Gate, tracer: Any = None, observer: Any = None
    ) -> None:
        self.pool = pool
        self.strategy = strategy
        self.tracer = tracer
        self.observer = observer
        self.finished = finished
        self.tasks: list[Task] = []
        self.timed: list[Task] = []  # blocked with a deadline
        self.trace: list[int] = []  # per decision: the threads not chosen by default | FREE
        self.deviations: list[tuple[int, int]] = []  # (decision, task) wherever it was not the default
        self.preemptions: list[tuple[int, int, int]] = []  # (task left, its steps by then, task entered)
        self.stuck: list[Task] = []
        self.locals: list[threading.local] = []  # made before the run: empty for each of its threads
        self.unheeded: Callable[[FrameType], bool] = _never_unheeded
        self.under: Any = None

    # What a run begins with, made once: runs are many.
    current: Task | None = None
    enabled = 0  # bits of the tasks that can go on, sleepers included
    sleeping = 0  # bits of those that sleep
    now = 1_000_000.0
    index = 0  # of the next decision
    stop_at = 0  # the next decision that the strategy wants to see
    switches = 0
    points = 0
    site: Any = None  # the change point of the preemption that the strategy is asked about
    leaver: Task | None = None  # who could not go on, at a choice that is free
    spin_mark = SPIN_LIMIT
    dead = False
    livelock = False
    paused = 0  # > 0: no change points (set-up, sequential parts)
    timeouts_fired = 0
    early = False  # every timeout may end while others could go on, not only those nobody heeds
    capped = False  # not every choice was one: a poll or a busy loop would never end
    timed_waits = 0  # waits with a timeout that could not end early, though others could go on
    clock_reads = 0

    # -- building

    def spawn(self, name: str, body: Callable[[], Any], thread: threading.Thread | None = None) -> Task:
        index = len(self.tasks)
        worker = self.pool.worker(index)
        task = Task(index, name, body, worker)
        worker.task, worker.run = task, self
        task.thread = thread
        self.tasks.append(task)
        self.enabled |= task.bit
        if index:
            task.started_at = self._under_test(sys._getframe(1))
        if self.observer is not None:
            self.observer.spawned(self, self.current, task)
        self.strategy_wants_a_look()
        return task

    def _under_test(self, frame: FrameType | None) -> tuple[str, str, int] | None:
        under = self.under
        while frame is not None and under is not None:
            code = frame.f_code
            if under.has(code.co_filename):
                return code.co_filename, code.co_qualname, frame.f_lineno or 0
            frame = frame.f_back
        return None

    # -- called by the task that has the baton

    def point(self, task: Task, site: Any) -> None:
        """A change point of `task`, which has the baton: another thread may go first."""
        if self.dead:
            raise Abandon
        self.points += 1
        task.steps += 1
        if self.observer is not None:
            self.observer.at_point(self, task, site)
            self._decide(task, site)
            self.observer.passed(self, task, site)
            return
        # _decide, once more: this is the hot path
        if self.enabled == task.bit or self.paused:
            if self.points > POINT_LIMIT:
                self._give_up(task)
            return
        index = self.index
        self.index = index + 1
        self.trace.append(self.enabled & ~task.bit)
        if index >= self.stop_at or index >= self.spin_mark:
            self._stop(task, site, index)

    def _give_up(self, task: Task) -> None:
        self.livelock = True
        self._end()
        self._park(task)

    def _decide(self, task: Task, site: Any) -> None:
        if self.enabled == task.bit or self.paused:
            return
        index = self.index
        self.index = index + 1
        self.trace.append(self.enabled & ~task.bit)
        if index >= self.stop_at or index >= self.spin_mark:
            self._stop(task, site, index)

    def _stop(self, task: Task, site: Any, index: int) -> None:
        if index >= STEP_LIMIT:
            self._give_up(task)
        if index >= self.spin_mark:
            # A busy loop waits for the others: give them the baton and let time pass; this is no preemption.
            self.trace[index] |= FREE
            self.capped = True
            self.now += 0.05
            self.spin_mark = index + SPIN_LIMIT
            others = self.enabled & ~task.bit
            awake = others & ~self.sleeping
            default = self.tasks[_next_bit(awake or others, task.index)]
            self.trace[index] = (others & ~default.bit) | FREE
            target = self.strategy.pick(self, task, others, default) if index >= self.stop_at else default
            if target is not default:
                self.deviations.append((index, target.index))
        else:
            self.site = site
            target = self.strategy.pick(self, task, self.enabled, task)
            if target is task:
                return
            self.deviations.append((index, target.index))
            self.preemptions.append((task.index, task.steps, target.index))
        self._switch(task, target)

    def _switch(self, task: Task, target: Task) -> None:
        self.switches += 1
        if target.bit & self.sleeping:
            self._wake(target)
        self.current = target
        self.spin_mark = self.index + SPIN_LIMIT
        task.worker.gate.pass_to(target.worker.gate)
        if self.dead:
            raise Abandon

    def _park(self, task: Task) -> None:
        task.worker.gate.wait()
        if self.dead:
            raise Abandon

    def _wake(self, target: Task) -> None:
        """It slept."""
        self.sleeping &= ~target.bit
        if target.deadline is not None and target.deadline > self.now:
            self.now = target.deadline
        target.deadline = None
        if target in self.timed:
            self.timed.remove(target)
            target.timed_out = True
            self.timeouts_fired += 1

    def block(self, task: Task, on: Any, timeout: float | None) -> bool:
        """Until `unblock`; False when `timeout` (s, virtual) ran out: where no thread can go on, or `early`."""
        if self.dead:
            raise Abandon
        task.waiting_for = on
        task.timed_out = False
        self.enabled &= ~task.bit
        if timeout is not None and timeout >= 0:
            task.deadline = self.now + timeout
            self.timed.append(task)
            if task.index:
                others = self.enabled & ~1 != 0
                if not (self.early or self.unheeded(sys._getframe(1))):
                    self.timed_waits += others
                elif task.sleeps >= SELF_WAKES:
                    self.capped |= others
                else:
                    task.sleeps += 1
                    # Like a sleeper: whoever chooses it lets its timeout end.
                    self.enabled |= task.bit
                    self.sleeping |= task.bit
        else:
            task.deadline = None
        task.wait_site = _stack(sys._getframe(1))
        self._yield(task)
        task.waiting_for = None
        return not task.timed_out

    def unblock(self, task: Task) -> None:
        self.enabled |= task.bit
        self.sleeping &= ~task.bit
        if task.deadline is not None:
            task.deadline = None
            if task in self.timed:
                self.timed.remove(task)
        self.strategy_wants_a_look()

    def strategy_wants_a_look(self) -> None:
        if self.strategy.eager:
            self.stop_at = self.index

    def sleep(self, task: Task, seconds: float) -> None:
        if self.dead:
            raise Abandon
        self.points += 1
        if self.paused:
            self.now += max(seconds, 0.0)
            return
        task.deadline = self.now + max(seconds, 0.0)
        task.sleeps += 1
        self.sleeping |= task.bit
        self._yield(task)

    def finish(self, task: Task) -> Gate | None:
        """The last thing a worker does for a task; once the gate returned is open the run belongs to somebody else."""
        if self.dead:
            with contextlib.suppress(RuntimeError):  # the controller gave this thread up and waits no more
                self.finished.open()
            return None
        task.done = True
        self.enabled &= ~task.bit
        if self.observer is not None:
            self.observer.finished(self, task)
        for waiter in task.on_done:
            if not waiter.done and waiter.waiting_for is task:
                self.unblock(waiter)
        target = None if task.index == 0 else self._next(task)  # the first thread's end is the run's
        if target is None:
            self._over()
            return self.finished
        self.current = target
        if target.bit & self.sleeping:
            self._wake(target)
        return target.worker.gate

    def _yield(self, task: Task) -> None:
        target = self._next(task)
        if target is None:
            self._end()
            self._park(task)
        elif target is task:
            if task.bit & self.sleeping:
                self._wake(task)
        else:
            self._switch(task, target)

    def _next(self, task: Task | None) -> Task | None:
        """Whom the baton goes to when `task` cannot go on; None when nobody can."""
        self.leaver = task
        choices = self.enabled
        awake = choices & ~self.sleeping
        start = -1 if task is None else task.index
        if awake:
            default = self.tasks[_next_bit(awake, start)]
        else:
            timed = [t for t in self.tasks if t.bit & self.sleeping and t not in self.timed] + self.timed
            if not timed:
                return None
            default = min(timed, key=lambda t: (t.deadline or 0.0, t.index))
            if default in self.timed and not default.bit & choices:
                self.timed.remove(default)
                self.now = max(self.now, default.deadline or self.now)
                default.deadline = None
                default.timed_out = True
                self.timeouts_fired += 1
                self.enabled |= default.bit
                choices |= default.bit
        if task is not None and task.bit & self.sleeping and task.sleeps > SELF_WAKES and awake:
            choices &= ~task.bit
            self.capped = True
        if self.paused or choices == default.bit:
            return default
        index = self.index
        self.index = index + 1
        self.trace.append((choices & ~default.bit) | FREE)
        if index >= STEP_LIMIT:
            self.livelock = True
            return None
        if index < self.stop_at and not self.strategy.eager:
            return default
        target = self.strategy.pick(self, None, choices, default)
        if target is not default:
            self.deviations.append((index, target.index))
        return target

    def _over(self) -> None:
        if not self.livelock:
            self.stuck = [t for t in self.tasks if not t.done]
        self.current = None

    def _end(self) -> None:
        self._over()
        self.finished.open()

    # -- called by the controller

    def start(self, seconds: float) -> bool:
        """Whether the run was over before so long."""
        self.strategy.begin(self)
        first = self.current = self.tasks[0]
        return self.finished.pass_for(first.worker.gate, seconds)

    def abandon(self, lost: Task | None = None, busy: bool = False) -> list[Task]:
        """Unwinds what is left, one thread at a time; returns the tasks that got stuck on the way.

        `lost` sits in a call that nobody controls: it is left where it is.
        """
        self.dead = True
        left = []
        if lost is not None:
            left.append(lost)
            self.pool.forget(lost.worker)
            if busy:
                unwind(lost.ident)
        for task in self.tasks:
            if task.done or task is lost or task.worker.task is not task:
                continue
            self.current = task
            task.worker.gate.open()
            if not self._unwound(task):
                left.append(task)
                self.pool.forget(task.worker)
        self.current = None
        return left

    def _unwound(self, task: Task) -> bool:
        still = Stillness(task.worker.native_id, UNWIND_S)
        while True:
            if self.finished.wait_for(LOOK_S):
                if task.worker.task is not task:  # else one that was given up has opened it
                    return True
            elif still.look():
                return False


def _never_unheeded(_frame: FrameType) -> bool:
    return False


def _next_bit(mask: int, after: int) -> int:
    """The lowest set bit above `after`, else the lowest."""
    high = mask >> (after + 1) << (after + 1)
    mask = high or mask
    return (mask & -mask).bit_length() - 1


def _stack(frame: FrameType | None) -> list[tuple[str, str, int]]:
    """(file, qualified name, line) from the innermost outwards, as far as it says where a thread waits."""
    found: list[tuple[str, str, int]] = []
    while frame is not None and len(found) < 40:
        code = frame.f_code
        found.append((code.co_filename, code.co_qualname, frame.f_lineno or 0))
        frame = frame.f_back
    return found
