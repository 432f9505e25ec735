"""gilprobe.watchdog in a program that is not recorded; reactions; bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pythons import ROOT, Python
from watchdog_runs import PROGRAMS, run


def within(python: Python, case: str) -> tuple[Any, str]:
    command = [python.executable, str(PROGRAMS / "within.py"), case, str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout), done.stderr


def test_a_deadlock_raises_in_one_thread_and_the_other_goes_on(watched_python: Python) -> None:
    answer, told = within(watched_python, "raises")
    assert answer == [["told", "went on"], ["first", "second"], 1, 0]
    assert told.count("gilprobe: deadlock") == 1


def test_orders_that_the_author_vouches_for_are_not_told(watched_python: Python) -> None:
    assert within(watched_python, "orders")[0] == [1, 1, 0, 0]


def test_method_tables_are_byte_for_byte_as_before_when_it_stops(any_python: Python) -> None:
    assert within(any_python, "tables")[0] == [True, False]


def test_a_million_locks_left_locked_take_no_room(watched_python: Python) -> None:
    assert within(watched_python, "many_locks")[0] == [0, True]


def test_a_lock_freed_while_held_is_no_ones(watched_python: Python) -> None:
    assert within(watched_python, "freed_while_held")[0] == [0]


def test_limits_and_words_that_mean_nothing_are_refused() -> None:
    python = Python(sys.executable, "3.11", False)
    assert within(python, "words")[0] == ["UsageError", "TypeError", "UsageError", "UsageError"]
    assert within(python, "twice")[0] == "refused"


@pytest.mark.parametrize("case", ["Lock", "RLock", "joins", "after_fork"])
def test_on_deadlock_raise_lets_the_rest_of_the_program_go_on(watched_python: Python, case: str) -> None:
    outcome = run(watched_python, "raises.py", case, on_deadlock="raise")
    assert (outcome.status, outcome.stdout) == (0, "['gilprobe.DeadlockError', 'went on']\n")
    assert len(outcome.profile.deadlocks) == 1
    assert "Warning" not in outcome.stderr


def test_on_deadlock_abort_ends_with_124_and_a_whole_recording(watched_python: Python) -> None:
    outcome = run(watched_python, "planted.py", "abba", on_deadlock="abort")
    assert outcome.status == 124
    assert len(outcome.profile.deadlocks) == 1
    assert outcome.profile.processes[0].end == "quick_exit"


@pytest.mark.parametrize(
    "words", [["--watchdog=0"], ["--watchdog=soon"], ["--watchdog=nan"], ["--on-deadlock", "raise"]]
)
def test_a_limit_that_is_none_is_refused_before_the_script_runs(words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gilprobe", "profile", "-o", str(tmp_path / "r"), *words, "-c", "print('ran')"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 2
    assert not (tmp_path / "r").exists()


def test_watchdog_takes_no_value_from_the_word_after_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys; print(sys.argv[1:])")
    command = [
        sys.executable,
        "-m",
        "gilprobe",
        "profile",
        "-o",
        str(tmp_path / "r"),
        "--watchdog",
        str(script),
        "--watchdog",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert (done.returncode, done.stdout) == (0, "['--watchdog']\n")
    assert "watchdog was off" not in done.stderr
