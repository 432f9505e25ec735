"""@pytest.mark.deadlock_watchdog on a real run of pytest: a test that deadlocks fails and ends, its twin passes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pythons import ROOT

TESTS = """
import threading
import pytest

def run(bodies):
    threads = [threading.Thread(target=body) for body in bodies]
    for t in threads: t.start()
    for t in threads: t.join()

def both(first, second, meet):
    def body():
        with first:
            meet()
            with second: pass
    return body

@pytest.mark.deadlock_watchdog(5)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_deadlocks():
    a, b, meeting = threading.Lock(), threading.Lock(), threading.Barrier(2)
    run([both(a, b, meeting.wait), both(b, a, meeting.wait)])

@pytest.mark.deadlock_watchdog(limit_s=5)
def test_fixed():
    a, b = threading.Lock(), threading.Lock()
    run([both(a, b, int), both(a, b, int)])
"""


def test_a_test_that_deadlocks_fails_and_the_next_one_runs(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "gilprobe.pytest_plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--strict-markers", "-rA", str(tmp_path / "test_it.py")],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "FAILED test_it.py::test_deadlocks" in done.stdout
    assert "deadlock_watchdog: 1 deadlock" in done.stdout
