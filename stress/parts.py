"""What the suite measures, part by part: each runs in a process of its own and gives one JSON object.

python -m stress.parts NAME --out FILE [--before FILE] [--short]. before: what an earlier run left unfinished.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stress import bench, campaigns, foreign, least
from stress.bench import ROOT
from stress.corpus import classic, harder, unseen

EVERYWHERE = ("3.11", "3.13", "3.13t")


@dataclass(frozen=True)
class Part:
    """`measure(size, before)` gives the row; a row whose `whole` is False goes on in the next run."""

    name: str
    measure: Callable[[Size, Any], dict[str, Any]]
    where: tuple[str, ...] = EVERYWHERE
    limit_s: float = 600


@dataclass(frozen=True)
class Size:
    """How much of it: `full` is what the bars ask for, `short` shows that it works."""

    classic_seeds: int
    seeds: int
    twin_schedules: int
    twin_budget_s: float
    histories: int
    replays: int
    campaign_s: float
    short: bool


FULL = Size(200, 20, 100_000, 240.0, 10_000, 100, 5.0, False)
SHORT = Size(5, 2, 4_000, 20.0, 300, 5, 1.0, True)
MUTANTS_S = 500.0  # of one run; the next one goes on with the rest
CASES = [*classic.CASES, *harder.CASES, *unseen.CASES]


def _command(name: str, size: Size, before: Any = None) -> dict[str, Any]:
    """One of the parts with a command of its own, into a file of its own. Mutants go on where `before` ended."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        arguments = [sys.executable, "-m", f"stress.{name}", "--out", str(out)]
        if size.short and name == "rivals":
            arguments += ["--budget", "1"]
        if size.short and name == "mutants":
            arguments += ["--budget", "0.5", "--schedules", "10"]
        if name == "mutants":
            arguments += ["--seconds", str(MUTANTS_S)]
            if before is not None:
                earlier = Path(folder) / "before.json"
                earlier.write_text(json.dumps(before))
                arguments += ["--before", str(earlier)]
        subprocess.run(arguments, cwd=ROOT, check=False)
        if not out.exists():
            return {"skipped": f"python -m stress {name} says why"}
        found: dict[str, Any] = json.loads(out.read_text())
        return found


PARTS = [
    Part("schedules", lambda s, b: bench.throughput(300 if s.short else 3_000)),
    Part("classic", lambda s, b: bench.planted(classic.CASES, s.classic_seeds)),
    Part("harder", lambda s, b: bench.planted(harder.CASES, s.seeds)),
    Part("unseen", lambda s, b: bench.planted(unseen.CASES, s.seeds)),
    Part("foreign", lambda s, b: foreign.measure(s.seeds), limit_s=900),
    Part("check", lambda s, b: bench.checked(s.seeds)),
    Part("uncontrolled", lambda s, b: bench.uncontrolled()),
    Part("linearizability", lambda s, b: bench.linearizability(s.histories)),
    Part("least", lambda s, b: least.schedules(CASES)),
    Part("replay", lambda s, b: least.replays(CASES, s.replays)),
    Part("twins", lambda s, b: bench.twins(CASES, s.twin_schedules, s.twin_budget_s, b)),
    Part("campaigns", lambda s, b: campaigns.measure_all(s.campaign_s, loader=False)),
    Part("loader", lambda s, b: campaigns.measure_all(s.campaign_s, loader=True), ("this",)),
    Part("sanitizers", lambda s, b: _command("sanitizers", s), ("3.13",)),
    Part("mutants", lambda s, b: _command("mutants", s, b), ("this",), 1_500),
    Part("rivals", lambda s, b: _command("rivals", s), ("this",), 1_500),
]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m stress.parts", description=__doc__)
    parser.add_argument("name", choices=[p.name for p in PARTS])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args(arguments)
    part = next(p for p in PARTS if p.name == options.name)
    before = json.loads(options.before.read_text()) if options.before else None
    row = part.measure(SHORT if options.short else FULL, before)
    options.out.write_text(json.dumps({"python": bench.build(), **row}))
    return 0


if __name__ == "__main__":
    importlib.import_module("stress.parts")
    sys.exit(main(sys.argv[1:]))
