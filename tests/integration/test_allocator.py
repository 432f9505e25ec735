"""glibc's arenas: the lock of one arena that all threads share is found where no hook sees it; its twin has none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from pythons import Python

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment
from gilprobe.model import Finding
from reports.zoo.record import ZOO


def allocator_findings(python: str, folder: Path, arenas: int) -> list[Finding]:
    variables = environment(folder, Options(rate_hz=500)) | {"MALLOC_ARENA_MAX": str(arenas)}
    subprocess.run(
        [python, str(ZOO / "arenas.py"), "1.5"], env=variables, check=True, stdout=subprocess.DEVNULL, timeout=300
    )
    return [finding for finding in load(folder).findings if finding.kind == "allocator"]


def test_one_arena_for_all_threads_is_named_with_its_cure(any_python: Python, tmp_path: Path) -> None:
    found = allocator_findings(any_python.executable, tmp_path, 1)
    if not found and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("ONE CORE: threads hardly ever meet in the allocator")
    (finding,) = found
    assert "MALLOC_ARENA_MAX" in finding.cure
    assert any(frame.file.endswith("arenas.py") and frame.function == "allocates" for frame in finding.sites)


def test_twin_with_an_arena_for_each_thread_has_no_such_cause(any_python: Python, tmp_path: Path) -> None:
    assert allocator_findings(any_python.executable, tmp_path, 16) == []
