"""python -m reports.accuracy [--quick]: writes summary.json and README.md beside this file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reports.environment import interpreters, write_summary
from reports.zoo.record import record

HERE = Path(__file__).parent
HOT = ("list_element", "attribute", "tuple_element", "dict_value", "closure_cell", "module_global", "bound_method")
IDLE = (
    "condition", "event", "semaphore", "barrier", "queue_get", "simple_queue", "queue_put", "join", "executor",
    "event_loop", "processes", "sleep",
)  # fmt: skip


class Table:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, what: str, build: str, measured: str, bar: str, met: bool) -> None:
        verdict = "met" if met else "missed"
        self.rows.append({"what": what, "build": build, "measured": measured, "bar": bar, "verdict": verdict})
        print(f"{what:58} {build:8} {measured:34} {bar:16} {verdict}", flush=True)


def waits(table: Table, item: dict[str, Any], quick: bool) -> None:
    for threads in (2, 8):
        for hold_ms in (1, 5, 50):
            rounds = max(3, int((60 if quick else 200) / hold_ms / threads))
            recorded = record(item["executable"], "locks.py", "lock", threads, hold_ms, rounds)
            truth, got = recorded.truth["seconds"]["lock"], recorded.total_s("lock")
            table.add(
                f"total lock wait, holds of {hold_ms} ms, {threads} threads", item["label"],
                f"{got * 1e3:.2f} ms, truth {truth * 1e3:.2f} ms", "2 % or 1 ms",
                abs(got - truth) <= max(0.02 * truth, 0.001),
            )  # fmt: skip
    recorded = record(item["executable"], "locks.py", "releasers", 2, 5, 10 if quick else 50)
    counted: dict[str, int] = {}
    for wait in recorded.profile.waits:
        for releaser in wait.releasers if wait.kind == "lock" else ():
            function = releaser.stack[0].function.rpartition(".")[2] if releaser.stack else "?"
            counted[function] = counted.get(function, 0) + releaser.count
    right = sum(min(counted.get(name, 0), count) for name, count in recorded.truth["releases"].items())
    wanted = sum(recorded.truth["releases"].values())
    table.add(
        "waits blamed on the right releaser", item["label"], f"{right} of {wanted}", ">= 99 %", right >= 0.99 * wanted
    )


def idle_twins(table: Table, item: dict[str, Any]) -> None:
    worst, which = 0.0, ""
    for case in IDLE:
        recorded = record(item["executable"], "idle.py", case)
        share = recorded.contention_s() / recorded.thread_seconds()
        if share >= worst:
            worst, which = share, case
    measured = f"at most {worst:.2%} of thread time ({which})"
    table.add(f"contention shown by {len(IDLE)} idle programs", item["label"], measured, "<= 1 %", worst <= 0.01)


def gil_shares(table: Table, item: dict[str, Any]) -> None:
    for case in ("busy", "half_busy"):
        recorded = record(item["executable"], "busy.py", "gil_shares", 2, case)
        (thread,) = [t for t in recorded.profile.threads if t.name == "subject"]
        held, truth = thread.gil_held_s / thread.wall_s, recorded.truth["gil_share"]["subject"]
        table.add(
            f"GIL held by a {case.replace('_', '-')} thread", item["label"], f"{held:.1%}, truth {truth:.1%}",
            "2 points", abs(held - truth) <= 0.02,
        )  # fmt: skip
    recorded = record(item["executable"], "busy.py", "native_code", 2)
    held = max(t.gil_held_s / t.wall_s for t in recorded.profile.threads if t.name != "MainThread")
    table.add("GIL held by a thread in native code (zlib)", item["label"], f"{held:.1%}", "<= 10 %", held <= 0.1)


def unaccounted(table: Table, item: dict[str, Any]) -> None:
    programs = [("locks.py", "lock", (8, 5, 10)), ("idle.py", "sleep", ()), ("busy.py", "native_code", (1,)),
                ("busy.py", "gil", (1,))]  # fmt: skip
    if item["free_threaded"]:
        programs += [("busy.py", "list_append", (1,)), ("busy.py", "dict_set", (1,)), ("hot.py", "attribute", (2, 1))]
    for program, case, arguments in programs:
        recorded = record(item["executable"], program, case, *arguments, rate_hz=100)
        share = sum(t.unaccounted_s for t in recorded.profile.threads) / recorded.thread_seconds()
        table.add(f"unaccounted time of {case}", item["label"], f"{share:.2%} of thread time", "<= 2 %", share <= 0.02)


def hot_objects(table: Table, item: dict[str, Any], quick: bool) -> None:
    for case in HOT:
        seconds = 1 if quick else 3
        alone = record(item["executable"], "hot.py", case, 1, 1, rate_hz=1000)
        both = record(item["executable"], "hot.py", case, 2, seconds, rate_hz=1000)
        low = record(item["executable"], "hot.py", case, 2, 3, rate_hz=100)
        twin = record(item["executable"], "hot.py", f"{case}_local", 2, seconds, rate_hz=1000)
        found = both.profile.hot_objects
        named = any(
            hot.object_type in both.truth["types"] and hot.site[0].function == both.truth["line_function"]
            for hot in found[:2]
        )
        shown = ", ".join(f"{hot.object_type} {hot.share:.0%}" for hot in found[:2])
        table.add(f"planted {case}: type and line among the first two", item["label"], shown, "yes", named)
        stall = 1 - alone.truth["cpu_ns"] / both.truth["cpu_ns"]
        total = sum(hot.share for hot in found)
        table.add(
            f"planted {case}: share of all hot objects", item["label"], f"{total:.0%}, stall {stall:.0%}", "15 points",
            abs(total - stall) <= 0.15,
        )  # fmt: skip
        same = bool(low.profile.hot_objects) and low.profile.hot_objects[0].object_type in both.truth["types"]
        first = low.profile.hot_objects[0].object_type if low.profile.hot_objects else "none"
        table.add(f"planted {case}: first at 100 Hz for 3 s", item["label"], first, "a planted type", same)
        false = [hot for run in (alone, twin) for hot in run.profile.hot_objects if hot.share > 0.01]
        table.add(f"{case}: hot objects of its twin and of one thread", item["label"], str(len(false)), "0", not false)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    table = Table()
    for item in interpreters():
        waits(table, item, quick)
        idle_twins(table, item)
        if not item["free_threaded"]:
            gil_shares(table, item)
        unaccounted(table, item)
        if item["free_threaded"]:
            hot_objects(table, item, quick)
    rows = [[str(row[key]) for key in ("what", "build", "measured", "bar", "verdict")] for row in table.rows]
    summary = {"command": "make accuracy", "quick": quick, "rows": table.rows}
    write_summary(HERE, summary, "How right the profile is", rows, ["what", "build", "measured", "bar", "verdict"])


if __name__ == "__main__":
    main()
