"""Mutants of the loader: the unchanged one passes its scenarios, one without a lock or a notify does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="NOT RUN: the loader's mutants need torch, which is not installed")

ROOT = Path(__file__).parents[3]


def test_a_mutant_is_killed_and_the_unchanged_loader_is_not() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stress.mutants", "--only", "fault_cost", "--scenario", "fault cost"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "quiet: the unchanged loader" in done.stdout
    assert "3/3 killed" in done.stdout
