"""--baseline: what kept two workers from being twice as fast, told from two real runs; what differs is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from commands import gilprobe
from pythons import Python

CRUNCH = """
import hashlib, sys, threading
workers, body = int(sys.argv[1]), sys.argv[2]
data = b"x" * (1 << 20)
def python_code(share):
    number = 0
    for _ in range(share * 30000): number += 1
def native_code(share):
    for _ in range(share): hashlib.sha256(data).digest()  # gives up the GIL
threads = [threading.Thread(target=globals()[body], args=(240 // workers,)) for _ in range(workers)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("crunched")
"""


def profiled(folder: Path, python: Python, workers: int, body: str, *options: str) -> None:
    (folder / "crunch.py").write_text(CRUNCH)
    run = ("profile", "-q", "-o", f"{body}{workers}", "--python", python.executable, *options)
    done = gilprobe(*run, "crunch.py", str(workers), body, cwd=folder)
    assert (done.returncode, done.stdout) == (0, "crunched\n"), done.stderr


def lost_to(folder: Path, body: str) -> dict[str, float]:
    done = gilprobe("report", f"{body}2", "--baseline", f"{body}1", "-f", "json", cwd=folder)
    waterfall: dict[str, Any] = json.loads(done.stdout)["waterfall"]
    assert waterfall["ideal"] == 2.0
    steps = {step["name"]: step["speedup"] for step in waterfall["steps"]}
    assert abs(waterfall["ideal"] - sum(steps.values()) - waterfall["actual"]) < 1e-9
    return steps


def test_the_gil_takes_what_it_takes_and_from_its_twin_nothing(gil_python: Python, tmp_path: Path) -> None:
    for body in ("python_code", "native_code"):
        for workers in (1, 2):
            profiled(tmp_path, gil_python, workers, body)
    planted, twin = lost_to(tmp_path, "python_code"), lost_to(tmp_path, "native_code")
    # Where other programs take the cores, most of a wait for the GIL is one for a core: only the order is sure.
    assert planted["gil"] > 0.05 and planted["gil"] > 2 * twin.get("gil", 0.0), (planted, twin)


def test_free_threaded_workers_lose_nothing_to_the_gil(free_threaded_python: Python, tmp_path: Path) -> None:
    for workers in (1, 2):
        profiled(tmp_path, free_threaded_python, workers, "python_code")
    assert lost_to(tmp_path, "python_code").get("gil", 0.0) == 0.0


def test_every_report_shows_it_and_a_baseline_of_another_program_is_refused(tmp_path: Path) -> None:
    profiled(tmp_path, Python(sys.executable, "3.11", False), 1, "native_code")
    done = gilprobe("profile", "-o", "two", "--baseline", "native_code1", "crunch.py", "2", "native_code", cwd=tmp_path)
    assert done.returncode == 0
    assert "ideal: 2 workers" in done.stderr and "unaccounted" in done.stderr
    done = gilprobe("report", "two", "--baseline", "native_code1", "-f", "markdown", cwd=tmp_path)
    assert "| unaccounted |" in done.stdout
    done = gilprobe("profile", "-o", "other", "--baseline", "native_code1", "-c", "print('ran')", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "another program: crunch.py, not -c print" in done.stderr


def test_a_baseline_with_two_workers_is_refused_before_the_script_runs(tmp_path: Path) -> None:
    profiled(tmp_path, Python(sys.executable, "3.11", False), 2, "native_code")
    done = gilprobe("profile", "-o", "o", "--baseline", "native_code2", "crunch.py", "2", "native_code", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "has 2 workers, not one" in done.stderr
