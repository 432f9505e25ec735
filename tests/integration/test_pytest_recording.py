"""The pytest plugin on real runs of pytest: a contended test and its twin that is not."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pythons import ROOT

from gilprobe.analysis import load
from gilprobe.errors import UsageError
from gilprobe.testing.limits import limits_of

TESTS = """
import threading, time
import pytest

def hold(lock):
    for _ in range(20):
        with lock: time.sleep(0.002)

def run(*locks):
    threads = [threading.Thread(target=hold, args=(lock,)) for lock in locks]
    for t in threads: t.start()
    for t in threads: t.join()

@pytest.mark.limit_contention(lock="5%")
def test_contended():
    lock = threading.Lock()
    run(lock, lock)

@pytest.mark.limit_contention(lock="5%", gil=0.5)
def test_fixed():
    run(threading.Lock(), threading.Lock())

@pytest.mark.limit_contention(lock="90%")
def test_within_its_limit():
    lock = threading.Lock()
    run(lock, lock)

def test_without_limit():
    lock = threading.Lock()
    run(lock, lock)

@pytest.mark.limit_contention(lock="5%")
def test_that_fails_anyway():
    lock = threading.Lock()
    run(lock, lock)
    assert False, "its own failure"
"""


def run_pytest(folder: Path, *arguments: str, tests: str = TESTS) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(tests)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "gilprobe.pytest_plugin", "-p", "no:cacheprovider", "--strict-markers",
         *arguments, str(folder / "test_it.py")],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


def test_a_test_that_waits_more_than_its_limit_fails_and_names_the_line(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "-rA")
    assert done.returncode == 1, done.stdout
    assert "2 failed, 3 passed" in done.stdout
    for name in ("test_fixed", "test_within_its_limit", "test_without_limit"):
        assert f"PASSED {tmp_path.name}" in done.stdout or f"::{name}" in done.stdout
    assert "waiting for lock: " in done.stdout and "of 3 threads x wall" in done.stdout
    assert "for lock in hold at test_it.py:7 in hold" in done.stdout
    assert "ended by Thread-" in done.stdout and "at test_it.py:7 in hold" in done.stdout
    assert "its own failure" in done.stdout, "a test's own failure is shown as ever"
    assert not list(tmp_path.glob("*.gilprobe")), "without --gilprobe nothing is left"


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="NO XDIST: runs with workers are not tested")
def test_workers_record_into_the_folder_that_nobody_named(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "--gilprobe", "-n", "2", "-k", "without_limit or within_its_limit")
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr
    (folder,) = tmp_path.glob("pytest.*.gilprobe")
    assert len({process.pid for process in load(folder).processes}) == 2
    assert f"gilprobe report {folder.name}" in done.stdout


@pytest.mark.parametrize("workers", [0, 2])
def test_the_run_is_recorded_and_summed_up(tmp_path: Path, workers: int) -> None:
    if workers and importlib.util.find_spec("xdist") is None:
        pytest.skip("NO XDIST: it is not installed, so runs with several workers are not tested")
    recording = tmp_path / "run.gilprobe"
    xdist = ["-n", str(workers)] if workers else []
    done = run_pytest(tmp_path, "--gilprobe", f"--gilprobe-output={recording}", *xdist)
    assert done.returncode == 1 and "2 failed, 3 passed" in done.stdout, done.stdout + done.stderr
    assert "= gilprobe =" in done.stdout and "Threads wait for a lock: lock in hold" in done.stdout
    profile = load(recording)
    assert len({process.pid for process in profile.processes}) == max(1, workers)
    assert all(process.end == "stop" for process in profile.processes)
    assert any(span.name.endswith("test_without_limit") for span in profile.spans)
    # Those of every test, also of those that had a recording of their own.
    waits = sum(wait.count for wait in profile.waits if wait.kind == "lock" and "hold" in wait.name)
    assert waits > 3 * 10
    if not workers:
        again = run_pytest(tmp_path, "--gilprobe", f"--gilprobe-output={recording}")
        assert again.returncode == 4 and "exists" in again.stdout + again.stderr


def test_a_marker_that_says_nothing_is_refused_before_any_test_runs(tmp_path: Path) -> None:
    tests = "import pytest\n@pytest.mark.limit_contention(locks='5%')\ndef test(): print('it ran')\n"
    done = run_pytest(tmp_path, "-s", tests=tests)
    assert done.returncode == 4
    assert "there is no kind of wait called locks" in done.stdout + done.stderr and "it ran" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((), {"lock": "much"}, "limit_contention(lock='much') is no share"),
        ((), {"lock": 5}, "limit_contention(lock=5) is no share"),
        ((), {"lock": None}, "is no share"),
        (("5%",), {}, "takes kinds by name"),
        ((), {}, "takes kinds by name"),
    ],
)
def test_limits_that_are_none(arguments: tuple[str, ...], options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        limits_of(arguments, options)
    assert said in refused.value.message


def test_limits_are_shares_or_percentages() -> None:
    given = {"lock": "5%", "gil": 0.2, "stop_the_world": "1", "import_": 0}
    assert limits_of((), given) == {"lock": 0.05, "gil": 0.2, "stop-the-world": 0.01, "import": 0.0}
