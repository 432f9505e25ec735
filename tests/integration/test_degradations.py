"""What a machine refuses costs one named step: the next best serves, and the report says what is gone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pythons import ROOT, Python

from gilprobe.analysis import load
from gilprobe.model import Profile

PERF_EVENT_OPEN, TIMER_CREATE = 298, 222
SECCOMP = ROOT / "tests" / "seccomp.py"
HOT = ROOT / "reports" / "zoo" / "hot.py"


def profiled(folder: Path, python: str, refused: tuple[int, ...], *options: str) -> Profile:
    command = [sys.executable, "-m", "gilprobe", "profile", "-q", "-o", folder / "r", "--python", python, *options]
    through = [sys.executable, SECCOMP, ",".join(map(str, refused))] if refused else []
    done = subprocess.run(
        [*through, *command, HOT, "attribute", "2", "0.7"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return load(folder / "r")


def said(profile: Profile, word: str) -> list[str]:
    return [f"{item.what}: {item.why}" for item in profile.not_observed if word in item.what]


def test_without_perf_the_timer_serves(free_threaded_python: Python, tmp_path: Path) -> None:
    profile = profiled(tmp_path, free_threaded_python.executable, (PERF_EVENT_OPEN,), "--rate", "500")
    assert profile.meta["sampler"] == "thread CPU timer"
    assert {hot.object_type for hot in profile.hot_objects} & {"Element", "Config"}
    (line,) = said(profile, "perf in")
    assert "not permitted: the thread CPU timer serves" in line


def test_twin_with_perf_says_nothing_of_it(free_threaded_python: Python, tmp_path: Path) -> None:
    profile = profiled(tmp_path, free_threaded_python.executable, (), "--rate", "500")
    if profile.meta["sampler"] != "perf task-clock":
        pytest.skip("NO PERF on this machine: gilprobe doctor tells why")
    assert said(profile, "perf in") == []


def test_without_perf_and_timers_waits_are_still_recorded(free_threaded_python: Python, tmp_path: Path) -> None:
    refused = (PERF_EVENT_OPEN, TIMER_CREATE)
    profile = profiled(tmp_path, free_threaded_python.executable, refused, "--rate", "500")
    assert profile.meta["sampler"] == "off" and profile.hot_objects == ()
    (line,) = said(profile, "CPU samples")
    assert "no hot objects" in line
    assert any(wait.kind == "join" for wait in profile.waits)


@pytest.mark.parametrize("module", ["capstone", "elftools"])
def test_without_a_decoder_hot_objects_are_named_as_missing(
    module: str, free_threaded_python: Python, tmp_path: Path
) -> None:
    profiled(tmp_path, free_threaded_python.executable, (), "--rate", "500")
    without = f"import sys; sys.modules[{module!r}] = None; from gilprobe.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", without, "report", tmp_path / "r", "-f", "markdown"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "hot" in line and module in line]
    assert len(lines) == 1 and "is not installed" in lines[0]


def test_a_stripped_interpreter_has_its_hot_objects_all_the_same(free_threaded_python: Python, tmp_path: Path) -> None:
    strip = shutil.which("strip")
    if strip is None:
        pytest.skip("NO STRIP: binutils are not installed")
    original = Path(free_threaded_python.executable).resolve()
    stripped = tmp_path / "bin" / original.name
    stripped.parent.mkdir()
    subprocess.run([strip, "--strip-all", "-o", stripped, original], check=True, timeout=300)
    assert stripped.stat().st_size < original.stat().st_size
    # By a shim: gilprobe's own interpreter must not see the other's home.
    shim = tmp_path / "python"
    shim.write_text(f'#!/bin/sh\nPYTHONHOME={original.parent.parent} exec {stripped} "$@"\n')
    shim.chmod(0o755)
    profile = profiled(tmp_path, str(shim), (), "--rate", "500")
    assert {hot.object_type for hot in profile.hot_objects} & {"Element", "Config"}
    assert all(process.python_stacks for process in profile.processes)
