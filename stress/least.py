"""The least schedule of each planted bug, as its replay file names it, and replays of it in fresh processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gilprobe.explore import run
from stress.bench import ROOT
from stress.corpus.classic import Case

AGAIN = "import sys, gilprobe.explore as e; r = e.replay(sys.argv[1]); print(r.verdict, r.oracle, r.preemptions)"


def saved(case: Case, folder: str, seed: int = 0) -> tuple[str | None, str]:
    """The replay file of a bug, and how a replay should end."""
    result = run(*case.bodies, state=case.state, final=case.final, seed=seed, budget_s=10, replay_dir=folder)
    return result.replay_path, f"{result.verdict} {result.oracle} {result.preemptions}"


def schedules(cases: list[Case]) -> dict[str, Any]:
    """By bug: the switches of its least schedule, which are to be the same on every build."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            if case.oracles:
                path, _ = saved(case, folder)
                rows[case.name] = None if path is None else json.loads(Path(path).read_text())["switches"]
    return {"cases": rows}


def replays(cases: list[Case], count: int) -> dict[str, Any]:
    """Fresh processes that reproduce saved schedules, the bugs in turn."""
    bugs = [case for case in cases if case.oracles]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    failures: dict[str, str] = {}
    reproduced = 0
    with tempfile.TemporaryDirectory() as folder:
        paths = [saved(case, folder, seed=1) for case in bugs]
        for number in range(count):
            case, (path, expected) = bugs[number % len(bugs)], paths[number % len(bugs)]
            done = subprocess.run([sys.executable, "-c", AGAIN, str(path)], cwd=folder, env=env, capture_output=True,
                                  text=True, timeout=60)  # fmt: skip
            if done.stdout.strip() == expected:
                reproduced += 1
            else:
                failures[case.name] = (done.stdout.strip() or done.stderr.strip().splitlines()[-1])[:300]
    return {"processes": count, "reproduced": reproduced, "bugs": len(bugs), "failures": failures}
