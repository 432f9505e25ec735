"""Slow is not deadlocked; what stands still too long is told as a stall."""

from __future__ import annotations

import pytest
from pythons import Python
from watchdog_runs import PROGRAMS, marked, run

ALIVE = [
    line.removeprefix("def ").partition("(")[0]
    for line in (PROGRAMS / "alive.py").read_text().splitlines()
    if line.startswith("def ") and line.endswith("():")
]


@pytest.mark.parametrize("case", ALIVE)
def test_nothing_is_told_of_a_program_that_is_only_slow(watched_python: Python, case: str) -> None:
    outcome = run(watched_python, "alive.py", case)
    assert outcome.status == 0, outcome.stderr
    assert outcome.profile.deadlocks == outcome.profile.stalls == ()
    assert "gilprobe:" not in outcome.stderr


def test_a_stall_names_the_waiter_the_holder_and_where_it_took_the_lock(watched_python: Python) -> None:
    outcome = run(watched_python, "stalls.py", "long_wait", limit_s=0.5)
    (stall,) = outcome.profile.stalls
    waiter, holder, *others = stall["threads"]
    assert {thread["name"] for thread in others} == {"MainThread"}
    lines = marked("stalls.py", "long_wait")
    assert (waiter["name"], holder["name"]) == ("wants", "holder")
    assert waiter["stack"][0]["line"] in lines["wants"]["waits"]
    assert holder["stack"][0]["line"] in lines["holder"]["holds"]
    assert holder["holds"][0]["taken"][0]["line"] in lines["holder"]["holds"]
    assert outcome.profile.deadlocks == ()


def test_the_gil_held_for_ever_by_c_code_is_told_with_the_line_that_called_it(gil_python: Python) -> None:
    outcome = run(gil_python, "stalls.py", "gil_forever", limit_s=0.5, until="gilprobe: stall")
    stall = outcome.profile.stalls[0]
    assert stall["gil"]["holder"] == "MainThread"
    assert stall["gil"]["held_s"] > 0.4
    assert any(frame["function"].endswith("spins") for frame in stall["gil"]["stack"])


def test_idle_threads_that_wake_and_lack_the_gil_for_a_moment_are_no_stall(gil_python: Python) -> None:
    outcome = run(gil_python, "stalls.py", "woken_late", limit_s=1.5)
    assert outcome.status == 0 and "gilprobe:" not in outcome.stderr
    assert outcome.profile.stalls == ()


def test_a_stop_of_the_world_that_one_thread_never_joins_is_told_with_that_thread(free_threaded_python: Python) -> None:
    outcome = run(free_threaded_python, "stalls.py", "world_stopped", limit_s=0.5, until="gilprobe: stall")
    assert outcome.told_ns
    told = {thread["name"]: thread for thread in outcome.profile.stalls[0]["threads"]}
    waits = marked("stalls.py", "world_stopped")["MainThread"]["waits"]
    assert told["MainThread"]["stack"][0]["line"] in waits
    assert told["MainThread"]["waits_for"]["kind"] == "stop-the-world"
    (spins,) = outcome.profile.stalls[0]["unpaused"]
    assert spins["name"] == "spins"
    assert [frame["function"] for frame in spins["stack"]][:2] == [
        "spinner.<locals>.<lambda>",
        "world_stopped.<locals>.spins",
    ]
    assert outcome.profile.deadlocks == ()


def test_a_program_in_which_nothing_runs_is_told_as_a_stall_and_no_deadlock(watched_python: Python) -> None:
    outcome = run(watched_python, "stalls.py", "standstill", limit_s=0.5, until="gilprobe: stall: nothing")
    assert outcome.told_ns
    assert outcome.profile.deadlocks == ()


@pytest.mark.parametrize("case", ["lost_wakeup", "lost_wakeup_of_a_plain_lock"])
def test_a_condition_notified_before_the_wait_is_told_when_nothing_runs(watched_python: Python, case: str) -> None:
    outcome = run(watched_python, "stalls.py", case, limit_s=0.5, until="a lost wakeup?")
    assert outcome.told_ns
    (told,) = (thread for thread in outcome.profile.stalls[0]["threads"] if "notified_before_s" in thread)
    assert told["name"] == "waits"
    assert any(frame["line"] in marked("stalls.py", "lost_wakeup")["waits"]["waits"] for frame in told["stack"])


def test_no_wakeup_is_lost_where_the_flag_is_looked_at_first(watched_python: Python) -> None:
    outcome = run(watched_python, "stalls.py", "wakeup_kept", limit_s=0.5)
    assert (outcome.status, outcome.profile.stalls) == (0, ())


def test_a_wakeup_that_came_is_not_lost(watched_python: Python) -> None:
    outcome = run(watched_python, "stalls.py", "wakeup_after_a_wait", limit_s=0.5, until="gilprobe: stall: nothing")
    assert outcome.told_ns
    assert "wakeup?" not in outcome.stderr
