"""Which schedules are run: iterative context bounding, then PCT, then at random.

A schedule is its deviations from the default one (nobody is preempted; when a thread cannot go on the next one does):
(number of the decision, thread).
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gilprobe.explore.engine import Outcome
from gilprobe.explore.points import Site
from gilprobe.explore.pool import Task
from gilprobe.explore.real import raw_monotonic
from gilprobe.explore.scheduler import FREE, Run, Strategy

Deviations = tuple[tuple[int, int], ...]
Execute = Callable[[Strategy], Outcome]
_NEVER = 1 << 60
FURTHER = 2  # more preemptions than asked for, where that takes few schedules
MANY = 400  # schedules after which some are chosen otherwise too, though no level is done
BEYOND = 300  # schedules, after all with the preemptions asked for were run
_SHUFFLE_MAX = 200_000  # children of a level put in random order; more are run as they come


class Fixed:
    """Follows given deviations."""

    eager = False

    def __init__(self, deviations: Deviations) -> None:
        self.deviations = deviations
        self.position = 0
        self.diverged: int | None = None
        self.where: Any = None  # the change point there, or who could not go on

    def begin(self, run: Run) -> None:
        run.stop_at = self.deviations[0][0] if self.deviations else _NEVER

    def pick(self, run: Run, current: Task | None, choices: int, default: Task) -> Task:
        index = run.index - 1
        if self.position >= len(self.deviations) or index != self.deviations[self.position][0]:
            return default
        target = self.deviations[self.position][1]
        self.position += 1
        run.stop_at = self.deviations[self.position][0] if self.position < len(self.deviations) else _NEVER
        if target >= len(run.tasks) or not choices >> target & 1:
            self.diverged = index
            self.where = run.site if current is not None else run.leaver
            return default
        return run.tasks[target]


class Pct:
    """Random priorities, lowered at `depth - 1` random decisions (Burckhardt et al., ASPLOS 2010)."""

    eager = True

    def __init__(self, rng: random.Random, length: int, depth: int) -> None:
        self.rng = rng
        self.changes = sorted(rng.sample(range(max(length, depth)), depth - 1))
        self.lowest = 0.0

    def begin(self, run: Run) -> None:
        run.stop_at = 0

    def pick(self, run: Run, current: Task | None, choices: int, default: Task) -> Task:
        index = run.index - 1
        while self.changes and self.changes[0] <= index:
            self.changes.pop(0)
            if current is not None:
                self.lowest -= 1.0
                current.priority = self.lowest
        run.stop_at = self.changes[0] if self.changes else _NEVER
        best = default
        found = False
        for task in run.tasks:
            if choices & task.bit:
                if task.priority == 0.0:
                    task.priority = self.rng.random() + 0.001
                if not found or task.priority > best.priority:
                    best, found = task, True
        return best


class Aimed:
    """PCT that changes priorities only at synchronisation and at accesses of what two threads touch."""

    eager = True

    def __init__(self, rng: random.Random, hot: Hot, depth: int) -> None:
        self.rng = rng
        self.sites = hot.sites
        self.changes = set(rng.sample(range(max(hot.count, depth)), depth - 1))
        self.met = 0
        self.lowest = 0.0

    def begin(self, run: Run) -> None:
        run.stop_at = 0

    def pick(self, run: Run, current: Task | None, choices: int, default: Task) -> Task:
        run.stop_at = 0
        if current is not None and (not isinstance(run.site, Site) or run.site in self.sites):
            if self.met in self.changes:
                self.lowest -= 1.0
                current.priority = self.lowest
            self.met += 1
        best = default
        found = False
        for task in run.tasks:
            if choices & task.bit:
                if task.priority == 0.0:
                    task.priority = self.rng.random() + 0.001
                if not found or task.priority > best.priority:
                    best, found = task, True
        return best


@dataclass(frozen=True, slots=True)
class Hot:
    """Where threads meet: the sites, how many decisions of a run lie there, and which of the default schedule's."""

    sites: frozenset[Site] = frozenset()
    count: int = 0
    decisions: frozenset[int] = frozenset()


class Randomly:
    """At every decision another thread with a given probability."""

    eager = True

    def __init__(self, rng: random.Random, probability: float) -> None:
        self.rng = rng
        self.probability = probability

    def begin(self, run: Run) -> None:
        run.stop_at = 0

    def pick(self, run: Run, current: Task | None, choices: int, default: Task) -> Task:
        rng = self.rng
        if current is not None and rng.random() > self.probability:
            return default
        indices = _indices(choices)
        return run.tasks[indices[int(rng.random() * len(indices))]]


@functools.cache
def _indices(mask: int) -> tuple[int, ...]:
    return tuple(bits(mask))


@dataclass(slots=True)
class Found:
    """How a search ended."""

    outcome: Outcome | None = None  # the failing or uncontrolled one
    deviations: Deviations = ()
    bound: int | None = None  # highest number of preemptions of which every schedule was run
    schedules: int = 0
    complete: bool = False  # every level asked for was
    length: int = 0  # decisions in the longest schedule
    inconclusive: int = 0
    timed: bool = False  # a thread waited with a timeout that could not end early while others could go on
    capped: bool = False  # some choices were not tried, as there is no end of them: polls, busy loops
    clocked: bool = False  # the code looked at a clock
    wavering: bool = False  # the same part of a schedule went another way when it was run again
    early: Outcome | None = None  # what fails only if a timeout ends while others could go on
    with_early: bool = False  # `outcome` is of a schedule in which every timeout may end early
    scenarios: int = 0  # of `check`, of which each was explored to the end


def search(
    execute: Execute, *, preemptions: int, deadline: float, seed: int, max_schedules: int | None = None,
    accept: Callable[[Outcome], bool] | None = None, guided: bool = True,
    hot: Hot | None = None, beyond: bool = True, timed_deadline: float | None = None,
) -> Found:  # fmt: skip
    """Runs schedules until one fails, all up to `preemptions` were run, or the deadline (s, monotonic) has passed.

    hot: where threads meet; those places are tried first. guided: False keeps to context bounding,
    beyond: False to the preemptions asked for. timed_deadline: where timeouts could end early, so that time is left to
    try that.
    """
    found = Found()
    rng = random.Random(seed)
    hot = hot or Hot()
    levels = _levels(execute, preemptions, rng, found, hot, beyond)
    out_of = _Budget(deadline, max_schedules, found, deadline if timed_deadline is None else timed_deadline)
    for outcome, deviations in levels:
        if _ends(outcome, deviations, found, accept) or out_of():
            return found
        far = (found.bound is not None and found.bound >= 1) or found.schedules >= MANY
        if guided and far and found.schedules % 40 == 0:
            for strategy in _random_strategies(rng, found.length, 20, hot):
                outcome = execute(strategy)
                found.schedules += 1
                if _ends(outcome, tuple(outcome.run.deviations), found, accept) or out_of():
                    return found
    found.complete = not (found.inconclusive or found.capped or found.wavering)
    if not found.complete:
        found.bound = None
    if found.length and (beyond or (guided and max_schedules is not None and not found.complete)):
        # A schedule with more preemptions may fail yet; and where not every choice was tried, the budget is used up.
        complete, found.complete = found.complete, False
        count = min(BEYOND, found.length * 12) if complete else _NEVER
        for strategy in _random_strategies(rng, found.length, count, hot):
            outcome = execute(strategy)
            found.schedules += 1
            if _ends(outcome, tuple(outcome.run.deviations), found, accept):
                return found
            if out_of():
                break
        found.complete = complete
    return found


class _Budget:
    def __init__(self, deadline: float, max_schedules: int | None, found: Found, timed_deadline: float) -> None:
        self.deadline = deadline
        self.timed_deadline = timed_deadline
        self.max_schedules = max_schedules
        self.found = found

    def __call__(self) -> bool:
        if self.max_schedules is not None and self.found.schedules >= self.max_schedules:
            return True
        return raw_monotonic() > (self.timed_deadline if self.found.timed else self.deadline)


def _ends(outcome: Outcome, deviations: Deviations, found: Found, accept: Callable[[Outcome], bool] | None) -> bool:
    if outcome.inconclusive:
        found.inconclusive += 1
    found.length = max(found.length, outcome.run.index)
    found.timed |= outcome.run.timed_waits > 0
    found.capped |= outcome.run.capped
    found.clocked |= outcome.run.clock_reads > 0
    if outcome.uncontrolled is not None or (outcome.failed and (accept is None or accept(outcome))):
        found.outcome = outcome
        found.deviations = deviations
        return True
    return False


def _random_strategies(rng: random.Random, length: int, count: int, hot: Hot) -> Iterator[Strategy]:
    for number in range(count):
        kind = number % 5
        if number % 2 and hot.count:
            yield Aimed(rng, hot, 2 + number // 2 % 3)
        elif kind == 4:
            yield Randomly(rng, rng.choice((0.05, 0.2, 0.5)))
        else:
            yield Pct(rng, max(length, 2), 2 + kind % 3)


def _levels(
    execute: Execute, preemptions: int, rng: random.Random, found: Found, hot: Hot, further: bool
) -> Iterator[tuple[Outcome, Deviations]]:
    parents: list[tuple[Deviations, list[int]]] = []
    for level in range(preemptions + 1 + (FURTHER if further else 0)):
        if level > preemptions and sum(len(trace) for _, trace in parents) > BEYOND * 3:
            return
        children = _children(parents, rng, hot) if level else iter([((), [])])
        next_parents: list[tuple[Deviations, list[int]]] = []
        kept = 0
        for child in children:
            stack: list[tuple[Deviations, list[int]]] = [child]
            while stack:
                deviations, before = stack.pop()
                strategy = Fixed(deviations)
                outcome = execute(strategy)
                found.schedules += 1
                if strategy.diverged is not None:
                    raise Diverged(strategy.diverged, strategy.where)
                yield outcome, deviations
                trace = outcome.run.trace
                start = deviations[-1][0] + 1 if deviations else 0
                found.wavering |= trace[:start] != before[:start]
                for index in range(len(trace) - 1, start - 1, -1):
                    if trace[index] & FREE:
                        stack.extend(((*deviations, (index, target)), trace) for target in bits(trace[index] & ~FREE))
                if not outcome.inconclusive and (level < preemptions or kept < BEYOND * 3):
                    next_parents.append((deviations, trace))
                    kept += len(trace)
        found.bound = min(level, preemptions)
        parents = next_parents


def _children(
    parents: list[tuple[Deviations, list[int]]], rng: random.Random, hot: Hot
) -> Iterator[tuple[Deviations, list[int]]]:
    """Each with the trace that it comes from."""
    total = sum(len(trace) for _, trace in parents)

    def each() -> Iterator[tuple[Deviations, list[int]]]:
        for deviations, trace in parents:
            for index in range(deviations[-1][0] + 1 if deviations else 0, len(trace)):
                if not trace[index] & FREE:
                    for target in bits(trace[index]):
                        yield (*deviations, (index, target)), trace

    if total > _SHUFFLE_MAX:
        return each()
    everything = list(each())
    rng.shuffle(everything)
    if hot.decisions:  # of the default schedule: those of the first level
        everything.sort(key=lambda c: len(c[0]) > 1 or c[0][0][0] not in hot.decisions)
    return iter(everything)


def bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class Diverged(Exception):
    """The code under test did something else when the same schedule was run again."""

    def __init__(self, index: int, where: Any) -> None:
        super().__init__(f"decision {index}")
        self.index = index
        self.where = where

    @property
    def place(self) -> str:
        if isinstance(self.where, Site):
            return f"before {self.where.source or self.where.op} ({self.where.file}:{self.where.line})"
        if isinstance(self.where, Task) and self.where.wait_site:
            return f"where {self.where.name} waits"
        return "between two threads"


def cpu_s() -> float:
    return time.process_time()
