"""Bugs and fixed twins by another hand, in stress/corpus/foreign: found, in which time, twins silent.

The explorer is not tuned on them: the figures of the first run stand in reports/stress/foreign-first.json.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from gilprobe.explore import Result, check, run
from stress.bench import percentile
from stress.corpus.foreign import CASES, Case, Setup

BUDGET_S = 10.0  # as the writer calls them
TWIN_BUDGET_S = 0.5


ALIKE = {
    "final": {"invariant"}, "exception": {"exception"}, "deadlock": {"deadlock", "lost-wakeup"},
    "lost wakeup": {"deadlock", "lost-wakeup"}, "linearizability": {"linearizability"},
}  # fmt: skip
EXPLORE: dict[str, Callable[..., Result]] = {"run": run, "check": check}


def measure(seeds: int, only: str = "") -> dict[str, Any]:
    """Each case and its twin. named: how many failures are called what the case's writer calls them."""
    rows: dict[str, Any] = {}
    for case in CASES:
        if only not in case.name:
            continue
        for side, setup, budget_s in (("", case.buggy, BUDGET_S), (" (fixed)", case.fixed, TWIN_BUDGET_S)):
            row = rows[case.name + side] = _side(case, setup, budget_s, seeds)
            row["bug"] = not side
            print(case.name + side, row, flush=True)
    bugs = [row for row in rows.values() if row["bug"]]
    twins = [row for row in rows.values() if not row["bug"]]
    return {
        "bugs": len(bugs), "found": sum(row["failed"] for row in bugs), "runs": sum(row["seeds"] for row in bugs),
        "found_always": sum(row["failed"] == row["seeds"] for row in bugs),
        "exhausted_bugs": sum(row["exhausted"] for row in bugs), "twins": len(twins),
        "false": sum(row["failed"] for row in twins), "cases": rows,
    }  # fmt: skip


def _side(case: Case, setup: Setup, budget_s: float, seeds: int) -> dict[str, Any]:
    times, verdicts, oracles, schedules = [], [], [], 0
    for seed in range(seeds):
        before = time.process_time()
        try:
            result = EXPLORE[case.kind](*setup.positional, **setup.keywords, seed=seed, budget_s=budget_s)
        except Exception as error:
            verdicts.append(f"{type(error).__name__}: {error}".splitlines()[0])
        else:
            verdicts.append(result.verdict)
            schedules += result.schedules
            if result.failed:
                oracles.append(str(result.oracle))
        times.append(time.process_time() - before)
    return {
        "seeds": seeds, "failed": verdicts.count("FAILED"), "exhausted": verdicts.count("EXHAUSTED"),
        "other": sorted({*verdicts} - {"FAILED", "EXHAUSTED"}), "oracles": sorted(set(oracles)),
        "named": sum(oracle in ALIKE[case.oracle] for oracle in oracles), "schedules": schedules,
        "cpu_s_median": round(statistics.median(times), 4), "cpu_s_p95": percentile(times, 0.95),
    }  # fmt: skip
