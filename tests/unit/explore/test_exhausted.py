"""EXHAUSTED for operations with few arguments, and of code with timeouts only where none that ends early matters."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gilprobe.explore import check, replay, run
from gilprobe.explore.check import all_scenarios
from gilprobe.explore.operations import Call


class Switch:
    def __init__(self) -> None:
        self._on = False
        self._lock = threading.Lock()

    def set(self, on: bool) -> bool:
        with self._lock:
            before, self._on = self._on, on
            return before


class BareSwitch(Switch):
    def set(self, on: bool) -> bool:
        before = self._on
        self._on = on
        return before


class Third(Switch):
    """Wrong only with the last of its arguments, in both threads."""

    def set(self, on: int) -> bool:  # type: ignore[override]
        return BareSwitch.set(self, True) if on == 2 else Switch.set(self, True)  # type: ignore[arg-type]


def test_all_calls_with_few_arguments_are_exhausted() -> None:
    pytest.importorskip("hypothesis", reason="check() draws arguments with hypothesis, which is not installed")
    result = check(Switch, max_ops=1, budget_s=30)
    assert (result.verdict, result.bound) == ("EXHAUSTED", 2)
    assert result.schedules > 3  # set(False) and set(True) in three pairs


def test_none_of_the_few_arguments_is_left_out() -> None:
    strategies = pytest.importorskip("hypothesis.strategies", reason="hypothesis is not installed")
    result = check(BareSwitch, max_ops=1)
    assert result.failed and result.operations == (("set(True)",), ("set(True)",))
    assert check(Third, operations={"set": strategies.sampled_from([0, 1, 2])}, max_ops=1).failed


def test_values_that_are_not_few_are_drawn() -> None:
    strategies = pytest.importorskip("hypothesis.strategies", reason="hypothesis is not installed")
    for many in (strategies.integers(0, 100), strategies.booleans().map(str), strategies.integers()):
        assert check(Switch, operations={"set": many}, max_ops=1, budget_s=0.5).verdict == "NOT_FOUND"


class Cell:
    def __init__(self) -> None:
        self.ready = threading.Event()
        self.value = 0
        self.seen = -1

    def put(self) -> None:
        self.value = 1
        self.ready.set()


def trusting(cell: Cell) -> None:
    cell.ready.wait(1)
    cell.seen = cell.value


def asking(cell: Cell) -> None:
    cell.seen = cell.value if cell.ready.wait(1) else 1


def patient(cell: Cell) -> None:
    """Wrong only if three timeouts end early."""
    cell.seen = 1 if any(cell.ready.wait(1) for _ in range(3)) else cell.value


def giving_up(cell: Cell) -> None:
    if not cell.ready.wait(1):
        raise TimeoutError
    cell.seen = cell.value


def polling(cell: Cell) -> None:
    while not cell.ready.is_set():
        time.sleep(0.1)
    cell.seen = cell.value


class Turns:
    def __init__(self) -> None:
        self.turn = threading.Event()
        self.back = threading.Event()


def take(turns: Turns) -> None:
    """Gives up without a word."""
    if turns.turn.wait(1):
        turns.back.set()


def give(turns: Turns) -> None:
    turns.turn.set()
    turns.back.wait()


def give_and_go(turns: Turns) -> None:
    turns.turn.set()
    if not turns.back.wait(1):
        return


def seen(cell: Any) -> None:
    assert cell.seen == 1


def test_a_wait_whose_end_nobody_asks_about_may_end_early() -> None:
    result = run(trusting, Cell.put, state=Cell, final=seen)
    assert (result.verdict, result.oracle, result.preemptions) == ("FAILED", "invariant", 0)


@pytest.mark.parametrize("body", [patient, giving_up])
def test_code_that_a_timeout_breaks_is_not_exhausted(body: Any) -> None:
    result = run(body, Cell.put, state=Cell, final=seen, budget_s=2)
    assert (result.verdict, result.bound) == ("NOT_FOUND", None)
    assert "if a timeout ends" in result.story


def test_who_gives_up_must_not_leave_another_waiting_for_ever(tmp_path: Path) -> None:
    result = run(take, give, state=Turns, replay_dir=str(tmp_path))
    assert (result.verdict, result.oracle, result.preemptions) == ("FAILED", "lost-wakeup", 0)
    assert replay(str(result.replay_path)).oracle == "lost-wakeup"
    assert run(take, give_and_go, state=Turns).verdict == "EXHAUSTED"


def test_code_that_asks_how_its_wait_ended_is_exhausted() -> None:
    assert run(asking, Cell.put, state=Cell, final=seen).verdict == "EXHAUSTED"


def test_a_poll_is_not_exhausted() -> None:
    result = run(polling, Cell.put, state=Cell, final=seen, preemptions=0, budget_s=2)
    assert (result.verdict, result.bound) == ("NOT_FOUND", None)
    assert "polls or spins" in result.story


class Three:
    """Two threads break it; what a third one does hides that."""

    def __init__(self) -> None:
        self.n = 0

    def add(self) -> None:
        self.n += 1

    def zero(self) -> None:
        self.n = 0


def test_scenarios_of_fewer_threads_are_among_all() -> None:
    calls = [Call("add"), Call("zero")]
    found = list(all_scenarios(calls, 3, 2))
    assert len(found) == len(set(found)) == 21 + 56  # multisets of two and of three of the six sequences
    assert ((calls[0],), (calls[0],)) == found[0]
    assert check(Three, threads=3, max_ops=1).failed
