"""Twelve planted deadlocks: the threads, locks and lines are named; each has a twin without the fault."""

from __future__ import annotations

import pytest
from pythons import Python
from watchdog_runs import marked, run

from gilprobe.model import LIBRARY_PARTS

CASES = [
    "abba", "ring", "rlock_mix", "condition", "join_cycle", "import_lock", "executor", "full_queue", "gil_mutex",
    "fork", "semaphore", "philosophers",
]  # fmt: skip


def own_lines(stack: list[dict[str, object]]) -> list[object]:
    return [f["line"] for f in stack if not any(part in str(f["file"]) for part in LIBRARY_PARTS)]


@pytest.mark.parametrize("case", CASES)
def test_a_planted_deadlock_is_told_with_its_threads_locks_and_lines(every_watched_python: Python, case: str) -> None:
    outcome = run(every_watched_python, "planted.py", case, until="gilprobe: deadlock")
    assert outcome.told_ns, outcome.stderr
    (deadlock,) = outcome.profile.deadlocks
    truth = marked("planted.py", case)
    told = {thread["name"]: thread for thread in deadlock["threads"]}
    stuck = {name for name, marks in truth.items() if "waits" in marks}
    if case == "import_lock":
        stuck.add("importer")  # its line is in the module it imports
    elif case == "gil_mutex" and not every_watched_python.free_threaded:
        stuck.add("holder")  # it waits for the GIL wherever it comes back from the sleep
    assert set(told) == stuck
    for name in set(truth) & stuck:
        if "waits" in truth[name] and not (
            case == "gil_mutex" and name == "holder" and not every_watched_python.free_threaded
        ):
            assert own_lines(told[name]["stack"])[0] in truth[name]["waits"], name
        taken = [held["taken"] for held in told[name]["holds"] if held["taken"]]
        if case != "import_lock" and "holds" in truth[name]:
            assert any(own_lines(stack)[0] in truth[name]["holds"] for stack in taken), name
    if case == "philosophers":  # five locks that one line takes
        wanted = {str(thread["waits_for"]["name"]) for thread in told.values()}
        assert wanted == {str(held["name"]) for thread in told.values() for held in thread["holds"]}
        assert len(wanted) == 5 and all("forks in" in name and " of 5)" in name for name in wanted), wanted
        assert "sort them" in outcome.profile.findings[0].cure


@pytest.mark.parametrize("case", CASES)
def test_the_twin_without_the_fault_is_not_told(every_watched_python: Python, case: str) -> None:
    outcome = run(every_watched_python, "planted.py", case, "fixed")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert outcome.profile.deadlocks == outcome.profile.stalls == ()
