"""What cannot be explored is refused in two lines, and what wavers is told with the step that does."""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from gilprobe.errors import GilprobeError, UsageError
from gilprobe.explore import check, run
from gilprobe.explore.result import Nondeterministic
from tests.unit.explore import subjects

TICKETS = itertools.count()
CHANCE = random.SystemRandom()


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    def get(self) -> str:
        return self.name


class Ticketed:
    def __init__(self) -> None:
        self.n = 0

    def go(self) -> None:
        if next(TICKETS) % 3 == 0:
            self.n += 1
        self.n += 1


class Drawing:
    def __init__(self) -> None:
        self.n = 0

    def go(self) -> None:
        if CHANCE.random() < 0.5:
            self.n += 1
            self.n += 1


def nothing(_: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: check(Named), "Named cannot be called so: missing a required argument: 'name'"),
        (lambda: check(subjects.LockedCounter, preemptions="2"), "preemptions='2' is not a whole number"),  # type: ignore[arg-type]
        (lambda: check(subjects.LockedCounter, budget_s=float("nan")), "budget_s=nan is no time"),
        (lambda: check(subjects.LockedCounter, invariant=3), "invariant=3 is not callable"),  # type: ignore[arg-type]
        (lambda: run(nothing, state=dict, preemptions=-3), "preemptions at least 0"),
        (lambda: run(lambda: None, state=dict), "too many positional arguments"),  # type: ignore[arg-type, misc]
        (lambda: run(nothing, state=nothing), "missing a required argument"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_explored_is_refused(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert said in caught.value.message
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("cls", [Ticketed, Drawing])
def test_code_that_is_not_deterministic_is_told_with_the_step(cls: type) -> None:
    for _ in range(20):  # one that draws may do the same a few times
        try:
            check(cls, budget_s=2)
        except Nondeterministic as error:
            if "differed" in error.message and __file__ in error.message:
                return
        except GilprobeError as error:
            pytest.fail(str(error))
    pytest.fail("no step was named")


def spin(_: Any) -> None:
    while True:
        pass


def test_a_loop_without_end_is_told_and_stopped() -> None:
    result = run(spin, nothing, state=dict, budget_s=1.5)
    assert (result.verdict, result.uncontrolled and result.uncontrolled.function) == ("UNCONTROLLED", "spin")
    assert "without a change point" in result.story
    for _ in range(600):
        if all(frame.f_code is not spin.__code__ for frame in sys._current_frames().values()):
            return
        time.sleep(0.05)
    pytest.fail("it goes on for ever")
