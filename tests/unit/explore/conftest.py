"""The subjects are a module of their own, importable by name from a fresh process too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[3]))  # the corpus under stress/

from gilprobe.explore import check, run


@pytest.fixture(autouse=True)
def _a_slow_machine_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict comes from the search: a budget runs out only where a test gives one."""
    for explore in (run, check):
        monkeypatch.setitem(explore.__kwdefaults__, "budget_s", 3600.0)  # type: ignore[arg-type]
