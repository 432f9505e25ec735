"""Schedules that survive shrinking: switches named by (thread, change points it has passed), not by decision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gilprobe.explore.engine import Outcome
from gilprobe.explore.pool import Task
from gilprobe.explore.real import raw_monotonic
from gilprobe.explore.scheduler import Run, Strategy
from gilprobe.explore.search import Deviations, Fixed

Execute = Callable[[Strategy, Any], Outcome]


@dataclass(frozen=True, slots=True)
class Switch:
    """Where a schedule differs from the default: at thread `leaver`'s decision it goes on with `target`.

    steps: change points the leaver has passed. nth: of several decisions there. free: the leaver could not go on.
    """

    leaver: int
    steps: int
    nth: int
    target: int
    free: bool


class _Counting:
    """Sees every decision and knows its key."""

    eager = False

    def __init__(self) -> None:
        self.last: tuple[int, int, bool] | None = None
        self.nth = 0

    def key(self, run: Run, current: Task | None) -> tuple[int, int, int, bool]:
        leaver = current or run.leaver
        here = (-1, 0, True) if leaver is None else (leaver.index, leaver.steps, current is None)
        self.nth = self.nth + 1 if here == self.last else 0
        self.last = here
        return here[0], here[1], self.nth, here[2]


class Recording(_Counting):
    """Follows deviations and notes them as switches."""

    def __init__(self, deviations: Deviations) -> None:
        super().__init__()
        self.fixed = Fixed(deviations)
        self.switches: list[Switch] = []

    def begin(self, run: Run) -> None:
        run.stop_at = 0

    def pick(self, run: Run, current: Task | None, choices: int, default: Task) -> Task:
        leaver, steps, nth, free = self.key(run, current)
        target = self.fixed.pick(run, current, choices, default)
        run.stop_at = 0
        if target is not default:
            self.switches.append(Switch(leaver, steps, nth, target.index, free))
        return target


class Following(_Counting):
    """Follows switches; those that do not fit are `missed`."""

    def __init__(self, switches: list[Switch]) -> None:
        super().__init__()
        self.wanted = {(s.leaver, s.steps, s.nth, s.free): s for s in switches}
        self.taken: list[Switch] = []

    def begin(self, run: Run) -> None:
        run.stop_at = 0

    def pick(self, run: Run, current: Task | None, choices: int, default: Task) -> Task:
        switch = self.wanted.get(self.key(run, current))
        run.stop_at = 0
        if switch is None or switch.target >= len(run.tasks) or not choices >> switch.target & 1:
            return default
        self.taken.append(switch)
        return run.tasks[switch.target]

    @property
    def missed(self) -> list[Switch]:
        return [s for s in self.wanted.values() if s not in self.taken]


def shrink(execute: Execute, switches: list[Switch], oracle: str, deadline: float) -> list[Switch]:
    """Fewest switches found by leaving some out (ddmin on halves, then one by one) that still fail with `oracle`."""

    def fails(candidate: list[Switch]) -> bool:
        return execute(Following(candidate), None).oracle == oracle

    best = switches
    size = max(1, len(best) // 2)
    while raw_monotonic() < deadline:
        for start in range(0, len(best), size):
            candidate = best[:start] + best[start + size :]
            if candidate != best and fails(candidate):
                best = candidate
                size = max(1, min(size, len(best) // 2))
                break
            if raw_monotonic() > deadline:
                break
        else:
            if size == 1:
                break
            size //= 2
    return best
