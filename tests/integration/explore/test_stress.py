"""The stress suite keeps each part's row as it comes, goes on where it was, and says which bar is missed."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from stress import bars
from stress.environments import Environment

suite = importlib.import_module("stress.__main__")


def test_a_suite_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "environments", lambda: ([Environment("3.11", sys.executable)], []))
    arguments = ["stress", "--short", "--only", "linearizability", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--minutes", "0"])
    suite.main()
    assert "out of time" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", arguments)
    suite.main()
    assert "linearizability on 3.11: measured" in capsys.readouterr().out
    suite.main()
    assert "there already: linearizability on 3.11" in capsys.readouterr().out
    row = json.loads((tmp_path / "summary.json").read_text())["linearizability"]["3.11"]
    assert row["disagreements"] == 0 and row["short"]
    assert "--short" in (tmp_path / "README.md").read_text()


def test_a_missed_bar_is_told() -> None:
    case = {"found": 19, "seeds": 20, "cpu_s_p95": 0.1, "exhausted": 1}
    found = bars.bars({"harder": {"3.13": {"cases": {"depth-3": case}}}})
    missed = {(bar.what, bar.where) for bar in found if bar.reached is False}
    assert missed == {("five harder bugs found", "3.13"), ("a buggy one called exhausted (harder)", "3.13")}
