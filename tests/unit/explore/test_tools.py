"""interleave, state_machine and hammer."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import pytest

from gilprobe.explore import ExploreFailure, hammer, interleave, state_machine

LOCK = threading.Lock()


def test_interleave_explores_a_test_that_starts_threads() -> None:
    @interleave
    def wrong() -> None:
        n = 0

        def add() -> None:
            nonlocal n
            n += 1

        threads = [threading.Thread(target=add) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert n == 2

    with pytest.raises(ExploreFailure) as caught:
        wrong()
    assert caught.value.result.oracle == "exception"
    assert "n" in caught.value.result.story


@interleave(budget_s=1.5)
def test_interleave_leaves_a_correct_test_alone() -> None:
    n = 0

    def add() -> None:
        nonlocal n
        with LOCK:
            n += 1

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert n == 2


def test_interleave_shares_a_state() -> None:
    class State:
        n = 0

    def two(state: State) -> None:
        assert state.n == 2

    @interleave(state=State, final=two)
    def add(state: State) -> None:
        state.n += 1

    with pytest.raises(ExploreFailure):
        add()


def test_rules_of_a_state_machine_race() -> None:
    stateful = pytest.importorskip("hypothesis.stateful", reason="needs hypothesis")
    from hypothesis import strategies as st

    class Machine(stateful.RuleBasedStateMachine):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.items: dict[int, int] = {}
            self.count = 0

        @stateful.rule(key=st.integers(0, 1))  # type: ignore[misc]
        def put(self, key: int) -> None:
            if key not in self.items:
                self.items[key] = 1
                self.count += 1

        @stateful.invariant()  # type: ignore[misc]
        def counted(self) -> None:
            assert self.count == len(self.items)

    result = state_machine(Machine, budget_s=20)
    assert (result.verdict, result.oracle) == ("FAILED", "invariant")


def crash() -> None:
    ctypes.string_at(0)


def hang() -> None:
    threading.Event().wait()


def fail_third(number: int) -> None:
    if number == 2:
        raise ValueError("the third thread fails")


def fine() -> None:
    pass


@pytest.mark.parametrize(
    ("fn", "verdict", "oracle", "said"),
    [(crash, "FAILED", "crash", "SIGSEGV"), (fail_third, "FAILED", "exception", "the third thread fails"),
     (hang, "UNCONTROLLED", None, "hung"), (fine, "NOT_FOUND", None, "")],
)  # fmt: skip
def test_hammer_isolates(fn: Any, verdict: str, oracle: str | None, said: str) -> None:
    result = hammer(fn, budget_s=0.5, seed=3)
    assert (result.verdict, result.oracle) == (verdict, oracle)
    assert said in result.story
    if verdict != "NOT_FOUND":
        assert "seed 3" in result.story
