"""Measures the explorer on the corpus, in this process: CPU seconds are those of the whole process."""

from __future__ import annotations

import itertools
import os
import platform
import random
import statistics
import sysconfig
import time
from pathlib import Path
from typing import Any

from gilprobe.explore import check, run
from gilprobe.explore.engine import Bodies, Session, files_of
from gilprobe.explore.linearize import Operation, linearizable
from gilprobe.explore.search import Randomly
from stress.corpus import classic
from stress.corpus.classic import Case

ROOT = Path(__file__).parents[1]


def build() -> str:
    free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return f"{platform.python_version()}{free}"


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4)


def planted(cases: list[Case], seeds: int) -> dict[str, Any]:
    rows = {}
    for case in cases:
        if not case.oracles:
            continue
        times, found, least, exhausted = [], 0, 0, 0
        for seed in range(seeds):
            before = time.process_time()
            result = run(*case.bodies, state=case.state, final=case.final, seed=seed, budget_s=10)
            times.append(time.process_time() - before)
            right = result.failed and result.oracle in case.oracles
            found += right
            exhausted += result.verdict == "EXHAUSTED"
            least += right and result.preemptions == case.preemptions
        rows[case.name] = {
            "seeds": seeds, "found": found, "least_preemptions": least, "exhausted": exhausted,
            "cpu_s_median": round(statistics.median(times), 4), "cpu_s_p95": percentile(times, 0.95),
        }  # fmt: skip
    return {"cases": rows}


def twins(cases: list[Case], schedules: int, budget_s: float, before: Any = None) -> dict[str, Any]:
    """Goes on from `before` where that had not come to `schedules`; the budget is shared by the twins evenly."""
    quiet = [c for c in cases if not c.oracles]
    share = -(-schedules // len(quiet))
    end = time.monotonic() + budget_s
    rows: dict[str, Any] = dict(before["cases"]) if before else {}
    for left, case in zip(range(len(quiet), 0, -1), quiet, strict=True):
        row = rows.setdefault(case.name, {"schedules": 0, "failures": 0, "seed": 0})
        until = time.monotonic() + max(1.0, (end - time.monotonic()) / left)
        while row["schedules"] < share and time.monotonic() < until:
            result = run(*case.bodies, state=case.state, final=case.final, seed=row["seed"],
                         budget_s=min(5.0, max(0.5, until - time.monotonic())))  # fmt: skip
            row["schedules"] += result.schedules
            row["failures"] += result.failed
            row["seed"] += 1
    total = {key: sum(row[key] for row in rows.values()) for key in ("schedules", "failures")}
    return {**total, "whole": all(row["schedules"] >= share for row in rows.values()), "cases": rows}


CLASSES = {
    "counter": (classic.Counter, "linearizability"), "cache": (classic.Cache, "linearizability"),
    "abba": (classic.Accounts, "deadlock"), "gate": (classic.Gate, "lost-wakeup"),
}  # fmt: skip


def checked(seeds: int) -> dict[str, Any]:
    """check(): found, shrunk to at most two operations a thread."""
    rows = {}
    for name, (cls, _oracle) in CLASSES.items():
        times, found, small = [], 0, 0
        for seed in range(seeds):
            before = time.process_time()
            result = check(cls, seed=seed, budget_s=10)
            times.append(time.process_time() - before)
            found += result.failed
            small += result.failed and all(len(t) <= 2 for t in result.operations) and result.preemptions == 1
        rows[name] = {
            "seeds": seeds, "found": found, "least": small, "cpu_s_median": round(statistics.median(times), 4),
            "cpu_s_p95": percentile(times, 0.95),
        }  # fmt: skip
    return {"cases": rows}


def throughput(schedules: int = 1500) -> dict[str, Any]:
    """Random schedules of the locked cache, looked up once by each of two threads: about 26 points, 8 switches."""
    cache = classic.LockedCache

    keys = ["a"]

    def look_up(shared: Any, _task: Any) -> None:
        for key in keys:
            shared.get(key)

    plan = Bodies(cache, [look_up, look_up], ["T1", "T2"])
    rng = random.Random(0)
    points = switches = 0
    with Session(files_of(cache), [cache]) as session:
        for _ in range(200):
            session.execute(plan, Randomly(rng, 1.0))
        before = time.process_time()
        for _ in range(schedules):
            outcome = session.execute(plan, Randomly(rng, 1.0))
            points += outcome.run.points
            switches += outcome.run.switches
        cpu_s = time.process_time() - before
    return {
        "schedules": schedules, "points_mean": round(points / schedules, 1),
        "switches_mean": round(switches / schedules, 1), "schedules_per_cpu_s": round(schedules / cpu_s),
    }  # fmt: skip


def uncontrolled() -> dict[str, Any]:
    def read(_: Any) -> None:
        reader, _writer = os.pipe()
        os.read(reader, 1)

    before = time.monotonic()
    result = run(read, state=dict)
    return {"verdict": result.verdict, "wall_s_to_verdict": round(time.monotonic() - before, 3)}


def register(state: Any, value: tuple[str, int]) -> list[Any]:
    if value[0] == "write":
        return [value[1]]
    return [state] if state == value[1] else []


def by_every_order(history: list[Operation]) -> bool:
    for order in itertools.permutations(range(len(history))):
        place = {n: at for at, n in enumerate(order)}
        if any((r := history[a].returned) is not None and r < history[b].called and place[a] > place[b]
               for a in place for b in place):  # fmt: skip
            continue
        state: Any = 0
        for n in order:
            after = register(state, history[n].value)
            if not after:
                break
            state = after[0]
        else:
            return True
    return False


def linearizability(histories: int) -> dict[str, Any]:
    disagree = positive = 0
    for seed in range(histories):
        rng = random.Random(seed)
        history = []
        for _ in range(rng.randint(1, 3)):
            now = 0.0
            for _ in range(rng.randint(1, 2)):
                called = now + rng.random()
                now = called + rng.random()
                history.append(Operation(called, now, (rng.choice(("read", "write")), rng.randint(0, 2))))
        expected = by_every_order(history)
        positive += expected
        disagree += linearizable(history, 0, register) != expected
    rng = random.Random(1)
    values = dict.fromkeys(range(50), 0)
    long = []
    for number in range(2_000):
        key = rng.randrange(50)
        if rng.random() < 0.5:
            values[key] = number
        value = ("write", number) if values[key] == number else ("read", values[key])
        long.append(Operation(number - rng.random() * 2, number + rng.random() * 2, value, key))
    before = time.process_time()
    accepted = linearizable(long, 0, register, partitioned=True)
    long_ms = round((time.process_time() - before) * 1e3, 2)
    return {
        "histories": histories, "linearizable": positive, "disagreements": disagree, "long_history_ms": long_ms,
        "long_history_accepted": accepted,
    }  # fmt: skip
