"""A program that hangs is never told to be free of contention; its twin without the fault has no such finding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pythons import Python
from watchdog_runs import PROGRAMS, marked, run

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment
from gilprobe.model import Finding


def kinds(found: tuple[Finding, ...]) -> set[str]:
    return {finding.kind for finding in found}


@pytest.mark.parametrize("case", ["abba", "join_cycle"])
def test_the_deadlock_is_the_first_finding(watched_python: Python, case: str) -> None:
    first, *rest = run(watched_python, "planted.py", case, until="gilprobe: deadlock", timeout_s=10).profile.findings
    assert first.kind == "deadlock" and first.evidence == "measured" and "none" not in kinds(tuple(rest))
    assert 0 < first.share <= 1
    waits = {line for marks in marked("planted.py", case).values() for line in marks.get("waits", ())}
    assert waits <= {frame.line for frame in first.sites}
    assert ("one order" in first.cure) == (case == "abba")


@pytest.mark.parametrize("case", ["abba", "join_cycle"])
def test_its_twin_has_no_such_finding(watched_python: Python, case: str) -> None:
    outcome = run(watched_python, "planted.py", case, "fixed")
    assert outcome.status == 0 and not kinds(outcome.profile.findings) & {"deadlock", "open-wait"}


def test_without_the_watchdog_waits_that_never_ended_are_the_finding(any_python: Python, tmp_path: Path) -> None:
    variables = os.environ | environment(tmp_path, Options(rate_hz=0))
    command = [any_python.executable, str(PROGRAMS / "planted.py"), "abba"]
    try:
        subprocess.run(command, env=variables, stdout=sys.stderr, timeout=2, check=False)
    except subprocess.TimeoutExpired:
        pass  # it hangs, and was killed
    found = load(tmp_path).findings
    assert found[0].kind == "open-wait" and "none" not in kinds(found)
    assert "--watchdog" in found[0].cure and found[0].share > 0.2
    waits = {line for marks in marked("planted.py", "abba").values() for line in marks.get("waits", ())}
    assert {frame.line for finding in found if finding.kind == "open-wait" for frame in finding.sites} <= waits
