"""A program that hangs is never told to be free of contention; its twin without the fault has no such finding."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from pythons import Python
from watchdog_runs import marked, run

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment
from gilprobe.model import Finding


def kinds(found: tuple[Finding, ...]) -> set[str]:
    return {finding.kind for finding in found}


@pytest.mark.parametrize("case", ["abba", "join_cycle"])
def test_the_deadlock_is_the_first_finding(watched_python: Python, case: str) -> None:
    first, *rest = run(watched_python, "planted.py", case, until="gilprobe: deadlock").profile.findings
    assert first.kind == "deadlock" and first.evidence == "measured" and "none" not in kinds(tuple(rest))
    assert 0 < first.share <= 1
    waits = {line for marks in marked("planted.py", case).values() for line in marks.get("waits", ())}
    assert waits <= {frame.line for frame in first.sites}
    assert ("one order" in first.cure) == (case == "abba")


@pytest.mark.parametrize("case", ["abba", "join_cycle"])
def test_its_twin_has_no_such_finding(watched_python: Python, case: str) -> None:
    outcome = run(watched_python, "planted.py", case, "fixed")
    assert outcome.status == 0 and not kinds(outcome.profile.findings) & {"deadlock", "open-wait"}


HUNG = """
import os, sys, threading, time
a, b, meeting = threading.Lock(), threading.Lock(), threading.Barrier(2)
def body(one, two):
    with one:
        if "fixed" not in sys.argv: meeting.wait()
        with two: pass  # stuck
def first(): body(a, b)
def second(): body(*(a, b) if "fixed" in sys.argv else (b, a))
threads = [threading.Thread(target=target, daemon=True) for target in (first, second)]
for thread in threads: thread.start()
def waits(thread):
    with open(f"/proc/self/task/{thread.native_id}/syscall") as file: return file.read().split()[0] == "202"  # futex
while "fixed" not in sys.argv and not all(map(waits, threads)): time.sleep(0.01)
time.sleep(0.5)
os.kill(os.getpid(), 9) if "kill" in sys.argv else os._exit(0)
"""


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_without_the_watchdog_waits_that_never_ended_are_told(any_python: Python, tmp_path: Path, end: str) -> None:
    def found(*arguments: str) -> tuple[Finding, ...]:
        folder = tmp_path / "-".join(arguments)
        folder.mkdir()
        script = tmp_path / "hung.py"
        script.write_text(HUNG)
        variables = os.environ | environment(folder, Options(rate_hz=0))
        subprocess.run([any_python.executable, str(script), *arguments], env=variables, timeout=300, check=False)
        return load(folder).findings

    hung = found(end, "hung")
    told = [finding for finding in hung if finding.kind == "open-wait"]
    assert "none" not in kinds(hung) and all("--watchdog" in finding.cure for finding in told)
    assert {frame.line for finding in told for frame in finding.sites} == {
        HUNG[: HUNG.index("# stuck")].count("\n") + 1
    }
    if end == "exit":
        first = next(finding for finding in hung if finding.kind != "runnable")  # other programs may have the cores
        assert first.kind == "open-wait" and first.share > 0.1
    assert "open-wait" not in kinds(found(end, "fixed"))
