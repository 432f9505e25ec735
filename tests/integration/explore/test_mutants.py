"""Mutants of the loader: the unchanged one passes its scenarios, one without a lock or a notify does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="NOT RUN: the loader's mutants need torch, which is not installed")

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("removed", ["fault_cost.py:22 lock", "notify: self._shutdown = True"])
def test_a_mutant_is_killed_and_the_unchanged_loader_is_not(removed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stress", "mutants", "--only", removed, "--schedules", "6"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "quiet: the unchanged loader" in done.stdout
    assert "1/1 killed" in done.stdout
