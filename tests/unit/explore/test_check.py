"""check(): wrong classes fail with the least scenario, their twins never do, and bad input is told what to do."""

from __future__ import annotations

import pytest
import subjects

from gilprobe.errors import GilprobeError
from gilprobe.explore import check

pytest.importorskip("hypothesis", reason="check() draws arguments with hypothesis, which is not installed")


@pytest.mark.parametrize(
    ("cls", "oracle", "sizes"),
    [(subjects.Counter, "linearizability", [1, 1]), (subjects.Cache, "linearizability", [1, 1]),
     (subjects.Box, "lost-wakeup", [1, 1])],
)  # fmt: skip
@pytest.mark.parametrize("seed", [0, 1])
def test_a_wrong_class_fails_with_the_least_operations_and_preemptions(
    cls: type, oracle: str, sizes: list[int], seed: int
) -> None:
    result = check(cls, seed=seed)
    assert (result.verdict, result.oracle) == ("FAILED", oracle)
    assert [len(calls) for calls in result.operations] == sizes
    assert result.preemptions == 1
    assert result.racing_pair is not None
    assert result.racing_pair[0].file == result.racing_pair[1].file == subjects.__file__
    assert "preemption" in result.story


@pytest.mark.parametrize("cls", [subjects.LockedCounter, subjects.LockedCache, subjects.SafeBox])
def test_its_twin_does_not(cls: type) -> None:
    assert check(cls, budget_s=1.5).verdict in ("EXHAUSTED", "NOT_FOUND")


def test_every_scenario_of_a_small_class_is_exhausted() -> None:
    result = check(subjects.LockedCounter, max_ops=1, preemptions=1, budget_s=30)
    assert (result.verdict, result.bound) == ("EXHAUSTED", 1)


@pytest.mark.parametrize(
    ("cls", "model", "what"),
    [(subjects.Undrawable, None, "no annotation"), (subjects.Counter, subjects.WrongModel, "model disagrees"),
     (subjects.Clocked, None, "by one thread gave")],
)  # fmt: skip
def test_bad_input_is_refused_in_two_lines(cls: type, model: type | None, what: str) -> None:
    with pytest.raises(GilprobeError) as caught:
        check(cls, model, budget_s=1)
    assert what in caught.value.message
    assert len(str(caught.value).splitlines()) == 2


def test_a_given_model_is_what_counts() -> None:
    assert check(subjects.Counter, subjects.Counter, operations={"inc": (), "get": ()}).oracle == "linearizability"
