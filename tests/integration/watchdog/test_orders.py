"""Twenty programs that never hang: ten whose threads would deadlock if they met, ten whose would not."""

from __future__ import annotations

import pytest
from pythons import Python
from watchdog_runs import PROGRAMS, run

CASES = [
    line.removeprefix("def ").partition("(")[0]
    for line in (PROGRAMS / "orders.py").read_text().splitlines()
    if line.startswith(("def wrong_", "def right_"))
]


@pytest.mark.parametrize("case", CASES)
def test_orders_that_contradict_each_other_are_told_and_no_others(watched_python: Python, case: str) -> None:
    outcome = run(watched_python, "orders.py", case)
    assert outcome.status == 0, outcome.stderr
    assert len(outcome.profile.lock_order) == case.startswith("wrong_"), outcome.stderr
    assert outcome.profile.deadlocks == outcome.profile.stalls == ()
    assert ("gilprobe: lock order" in outcome.stderr) == case.startswith("wrong_")


def test_both_sites_of_a_contradiction_are_told(watched_python: Python) -> None:
    (order,) = run(watched_python, "orders.py", "wrong_acquire_release").profile.lock_order
    text = (PROGRAMS / "orders.py").read_text().splitlines()
    lines = {
        text[way[part]["taken"][-1]["line"] - 1].strip()
        for way in order["ways"]
        for part in ("holds", "takes")
        if way[part]["taken"][-1]["file"].endswith("orders.py")
    }
    assert lines == {"b.acquire()", "a.acquire()", "stack.enter_context(lock)"}
    assert len({way["thread"] for way in order["ways"]}) == 2


def test_locks_at_addresses_that_look_alike_are_told_apart(watched_python: Python) -> None:
    outcome = run(watched_python, "orders.py", "alike")
    assert outcome.status == 0 and int(outcome.stdout) > 20, outcome.stderr
    assert not outcome.profile.lock_order
