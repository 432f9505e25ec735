"""Bugs and fixed twins by another hand, in stress/corpus/foreign: found, in which time, twins silent.

The explorer is not tuned on them: the figures of the first run stand in reports/stress/foreign-first.json.
"""

from __future__ import annotations

import importlib
import pkgutil
import statistics
import time
from typing import Any

from gilprobe.explore import run
from stress.bench import percentile

BUDGET_S = 5.0
TWIN_BUDGET_S = 0.5


def cases() -> list[Any]:
    """Of every module of the folder, by name."""
    try:
        package = importlib.import_module("stress.corpus.foreign")
    except ImportError:
        return []
    found = list(getattr(package, "CASES", []))
    if not found:
        for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
            found += getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "CASES", [])
    return found


def measure(seeds: int) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for case in cases():
        times, verdicts, oracles = [], [], []
        for seed in range(seeds):
            before = time.process_time()
            try:
                result = run(*case.bodies, state=case.state, final=case.final, seed=seed,
                             budget_s=BUDGET_S if case.oracles else TWIN_BUDGET_S)  # fmt: skip
            except Exception as error:
                verdicts.append(f"{type(error).__name__}: {error}".splitlines()[0])
            else:
                verdicts.append(result.verdict)
                if result.failed:
                    oracles.append(result.oracle)
            times.append(time.process_time() - before)
        rows[case.name] = {
            "bug": bool(case.oracles), "seeds": seeds, "failed": verdicts.count("FAILED"),
            "exhausted": verdicts.count("EXHAUSTED"), "other": sorted({*verdicts} - {"FAILED", "EXHAUSTED"}),
            "oracles": sorted({str(o) for o in oracles}), "wanted": list(case.oracles),
            "cpu_s_median": round(statistics.median(times), 4), "cpu_s_p95": percentile(times, 0.95),
        }  # fmt: skip
        print(case.name, rows[case.name], flush=True)
    bugs = [row for row in rows.values() if row["bug"]]
    twins = [row for row in rows.values() if not row["bug"]]
    return {
        "bugs": len(bugs), "found": sum(row["failed"] for row in bugs), "runs": sum(row["seeds"] for row in bugs),
        "found_always": sum(row["failed"] == row["seeds"] for row in bugs),
        "exhausted_bugs": sum(row["exhausted"] for row in bugs), "twins": len(twins),
        "false": sum(row["failed"] for row in twins), "cases": rows,
    }  # fmt: skip
