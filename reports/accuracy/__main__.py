"""python -m reports.accuracy [--quick] [--only PART] [--python PATH].

Whole runs write summary.json and README.md beside this file; --only and --python print only.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gilprobe.launch import py_spy
from gilprobe.model import Profile
from reports.demo import pictures
from reports.environment import ROOT, interpreters, write_summary
from reports.zoo.prove import Proven, prove_hot
from reports.zoo.record import Recorded, record, record_by_py_spy, record_script

HERE = Path(__file__).parent
HOT = ("list_element", "attribute", "tuple_element", "dict_value", "closure_cell", "module_global", "bound_method")
IDLE = (
    "condition", "event", "semaphore", "barrier", "queue_get", "simple_queue", "queue_put", "join", "executor",
    "event_loop", "processes", "sleep", "pipe", "sockets", "polling",
)  # fmt: skip
LOCAL = (
    ("locks.py", "lock_local"), ("locks.py", "rlock_local"), ("locks.py", "logging_local"),
    ("locks.py", "imports_local"), ("native.py", "mutex_local"), ("busy.py", "list_append_local"),
    ("busy.py", "dict_set_local"),
)  # fmt: skip
# Two threads that are to fight over one object must run at once: beyond this share of waiting for a core they do not.
MOST_READY_SHARE = 0.1
LEAST_CORES = 1.2
TRIES = 3
STALL_PAIRS = 5
NOTES = f"""Every truth is the measured program's own: a stopwatch around each call, counters, the kernel's CPU and
run delay. A stopwatch around `acquire` on a build with the GIL also has the wait for the GIL that follows the lock's;
the profile shows the two apart, and both are in the row. It also has what `acquire` computes before and after it
waits: between that stopwatch less the thread's own CPU in it, and all of it, is right. A release is counted as ending
a wait where the waiter's stopwatch has 1 ms or more. Of programs without contention, only those that compute have
their waits for the GIL left out. Rows on planted objects need two threads at once: of {TRIES} runs the one that
waited least for a core counts; it is undecided where that is over {MOST_READY_SHARE:.0%} of the time. Stall: 1 - CPU
an operation in a program without threads / in two threads; that and the share are medians of {STALL_PAIRS} interleaved
pairs, with their ranges.
Gains are shares of the CPU an operation takes: predicted from the samples of the second before the world is stopped,
proven by work a second of CPU in it and in the second after; undecided where the threads had less than {LEAST_CORES}
cores together."""


class Table:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, what: str, build: str, measured: str, bar: str, met: bool, *, decided: bool = True) -> None:
        """decided: False where the machine did not let the program do what the row is about."""
        verdict = "undecided" if not decided else "met" if met else "missed"
        self.rows.append({"what": what, "build": build, "measured": measured, "bar": bar, "verdict": verdict})
        print(f"{what:58} {build:8} {measured:34} {bar:16} {verdict}", flush=True)


def waits(table: Table, item: dict[str, Any], quick: bool) -> None:
    for threads in (2, 8):
        for hold_ms in (1, 5, 50):
            rounds = max(3, int((60 if quick else 200) / hold_ms / threads))
            recorded = record(item["executable"], "locks.py", "lock", threads, hold_ms, rounds)
            truth, got, lock_s = (
                recorded.truth["seconds"]["lock"],
                recorded.stopwatch_s("lock"),
                recorded.total_s("lock"),
            )
            least = truth - recorded.truth["cpu"]["lock"]
            gil = "" if item["free_threaded"] else f" + GIL {(got - lock_s) * 1e3:.2f}"
            table.add(
                f"total lock wait, holds of {hold_ms} ms, {threads} threads", item["label"],
                f"{lock_s * 1e3:.2f}{gil} ms, truth {least * 1e3:.2f} to {truth * 1e3:.2f} ms", "2 % or 1 ms",
                max(least - got, got - truth) <= max(0.02 * truth, 0.001),
            )  # fmt: skip
    recorded = record(item["executable"], "locks.py", "releasers", 2, 5, 10 if quick else 100)
    counted: dict[str, int] = {}
    for wait in recorded.profile.waits:
        for releaser in wait.releasers if wait.kind == "lock" else ():
            function = releaser.stack[0].function.rpartition(".")[2] if releaser.stack else "?"
            counted[function] = counted.get(function, 0) + releaser.count
    # A release too early for the waiter to have waited for it has no wait: between `waited` and `releases` is right.
    waited, releases = recorded.truth["waited"], recorded.truth["releases"]
    wanted = sum(waited.values())
    lacking = sum(max(0, count - counted.get(name, 0)) for name, count in waited.items())
    surplus = sum(max(0, count - releases.get(name, 0)) for name, count in counted.items())
    right = wanted - max(lacking, surplus)
    table.add(
        "waits blamed on the right releaser", item["label"], f"{right} of {wanted}", ">= 99 %",
        right >= 0.99 * wanted > 0,
    )  # fmt: skip


def twins(table: Table, item: dict[str, Any]) -> None:
    _no_contention(table, item, "idle programs", [("idle.py", case) for case in IDLE])
    _no_contention(table, item, "programs with a lock or object a thread", LOCAL)


def _no_contention(table: Table, item: dict[str, Any], what: str, cases: Sequence[tuple[str, str]]) -> None:
    worst, which = 0.0, "all"
    for program, case in cases:
        recorded = record(item["executable"], program, case)
        # Two threads that compute share the GIL, whatever else they have of their own.
        gil_s = recorded.contention_s("gil") if program == "busy.py" else 0.0
        share = (recorded.contention_s() - gil_s) / recorded.thread_seconds()
        if share > worst:
            worst, which = share, case
    measured = f"at most {worst:.2%} of thread time ({which})"
    table.add(f"contention shown by {len(cases)} {what}", item["label"], measured, "<= 1 %", worst <= 0.01)


def gil_shares(table: Table, item: dict[str, Any]) -> None:
    for case in ("busy", "half_busy", "native"):
        recorded = record(item["executable"], "busy.py", "gil_shares", 2, case)
        (thread,) = [t for t in recorded.profile.threads if t.name == "subject"]
        held, truth = thread.gil_held_s / thread.wall_s, recorded.truth["gil_share"]
        table.add(
            f"GIL held by a {case.replace('_', '-')} thread", item["label"], f"{held:.1%}, truth {truth:.1%}",
            "2 points", abs(held - truth) <= 0.02,
        )  # fmt: skip


def py_spy_states(table: Table, item: dict[str, Any]) -> None:
    """Of the time since it attached; the truth is of the whole thread's life."""
    for case in ("busy", "half_busy", "native"):
        truth, profile = record_by_py_spy(item["executable"], "busy.py", "gil_shares", 2, case)
        seen = [s for s in profile.wall_stacks if profile.threads[s.thread].name == "subject"]
        total_s = sum(s.seconds for s in seen)
        held = sum(s.seconds for s in seen if s.state == "held") / total_s if total_s else 0.0
        table.add(
            f"GIL held by a {case.replace('_', '-')} thread, by py-spy's samples", item["label"],
            f"{held:.1%}, truth {truth['gil_share']:.1%}", "5 points", abs(held - truth["gil_share"]) <= 0.05,
            decided=bool(seen),
        )  # fmt: skip


def unaccounted(table: Table, item: dict[str, Any]) -> None:
    programs = [("locks.py", "lock", (8, 5, 10)), ("idle.py", "sockets", ()), ("busy.py", "native_code", (1,)),
                ("busy.py", "gil", (1,)), ("busy.py", "naps", (2,)), ("busy.py", "turns", (2,))]  # fmt: skip
    if item["free_threaded"]:
        programs += [("busy.py", "list_append", (1,)), ("busy.py", "dict_set", (1,)), ("hot.py", "attribute", (2, 1))]
    for program, case, arguments in programs:
        recorded = record(item["executable"], program, case, *arguments, rate_hz=100)
        _unaccounted(table, case, item["label"], recorded.profile)


def demo(table: Table) -> None:
    pictures.make()
    for python in (Path(sys.executable), ROOT / ".venv-t" / "bin" / "python"):
        if python.exists():
            script = ROOT / "reports" / "demo" / "thumbnails.py"
            _, profile = record_script(str(python), script, "--rounds", 1, rate_hz=100)
            _unaccounted(table, "the demo", profile.meta["python"], profile)


def _unaccounted(table: Table, what: str, label: str, profile: Profile) -> None:
    share = sum(t.unaccounted_s for t in profile.threads) / sum(t.wall_s for t in profile.threads)
    table.add(f"unaccounted time of {what}", label, f"{share:.2%} of thread time", "<= 2 %", share <= 0.02)


def _side_by_side(item: dict[str, Any], case: str, seconds: float, rate_hz: int) -> Recorded:
    """Of TRIES runs on two threads the one that waited least for a core; the first that hardly waited, if any."""
    best: Recorded | None = None
    for _ in range(TRIES):
        recorded = record(item["executable"], "hot.py", case, 2, seconds, rate_hz=rate_hz)
        if best is None or recorded.ready_share() < best.ready_share():
            best = recorded
        if best.ready_share() <= MOST_READY_SHARE:
            break
    assert best is not None
    return best


def _range(shares: Sequence[float]) -> str:
    return f"{min(shares):.0%}-{max(shares):.0%}"


def hot_objects(table: Table, item: dict[str, Any], quick: bool) -> None:
    for case in HOT:
        seconds = 1 if quick else 3
        pairs = [
            (
                _side_by_side(item, case, seconds, 1000),
                record(item["executable"], "hot.py", case, 0, 1, rate_hz=1000),
            )
            for _ in range(1 if quick else STALL_PAIRS)
        ]
        both = pairs[0][0]
        low = _side_by_side(item, case, 3, 100)
        alike = both.ready_share() <= MOST_READY_SHARE
        beside = [(run, alone) for run, alone in pairs if run.ready_share() <= MOST_READY_SHARE]
        twin = record(item["executable"], "hot.py", f"{case}_local", 2, seconds, rate_hz=1000)
        worker = record(item["executable"], "hot.py", case, 1, 1, rate_hz=1000)
        found = both.profile.hot_objects
        named = any(
            hot.object_type in both.truth["types"] and hot.site[0].function == both.truth["line_function"]
            for hot in found[:2]
        )
        shown = ", ".join(f"{hot.object_type} {hot.share:.0%}" for hot in found[:2])
        table.add(
            f"planted {case}: type and line among the first two",
            item["label"],
            shown,
            "yes",
            named,
            decided=alike or named,
        )
        names = both.truth["names"]
        wrong = [hot.name for hot in found[:2] if hot.name != names.get(hot.object_type, hot.name)]
        table.add(
            f"planted {case}: name and kind of both",
            item["label"],
            "; ".join(wrong) or "right",
            "right",
            not wrong and named,
            decided=alike or bool(found),
        )
        stalls = [1 - alone.truth["cpu_ns"] / run.truth["cpu_ns"] for run, alone in beside or pairs]
        shares = [sum(hot.share for hot in run.profile.hot_objects) for run, _ in beside or pairs]
        share, stall = statistics.median(shares), statistics.median(stalls)
        table.add(
            f"planted {case}: share of all hot objects", item["label"],
            f"{share:.0%} ({_range(shares)}), stall {stall:.0%} ({_range(stalls)})",
            "15 points", abs(share - stall) <= 0.15, decided=bool(beside),
        )  # fmt: skip
        same = bool(low.profile.hot_objects) and low.profile.hot_objects[0].object_type in both.truth["types"]
        first = low.profile.hot_objects[0].object_type if low.profile.hot_objects else "none"
        table.add(f"planted {case}: first at 100 Hz for 3 s", item["label"], first, "a planted type", same)
        false = [hot for run in (pairs[0][1], worker, twin) for hot in run.profile.hot_objects if hot.share > 0.01]
        table.add(f"{case}: hot objects of its twin and of one thread", item["label"], str(len(false)), "0", not false)


def proofs(table: Table, item: dict[str, Any], quick: bool) -> None:
    """In each row what gilprobe predicted, what it measured after freezing, and what the program itself counted."""
    for case in HOT:
        best: Proven | None = None
        for _ in range(1 if quick else TRIES):
            proven = prove_hot(item["executable"], case, 4)
            if best is None or proven.cores() > best.cores():
                best = proven
            if best.cores() >= LEAST_CORES:
                break
        assert best is not None
        proof, got, truth = best.proof, best.proof.proven, best.truth
        decided = got is not None and truth is not None and best.cores() >= LEAST_CORES
        got, truth = got or 0.0, truth or 0.0
        table.add(
            f"planted {case}: predicted against proven gain", item["label"],
            f"{proof.predicted:.0%} predicted, {got:.0%} proven, {best.cores():.1f} cores", "15 points",
            abs(proof.predicted - got) <= 0.15, decided=decided,
        )  # fmt: skip
        table.add(
            f"planted {case}: proven gain against its own count", item["label"], f"{got:.0%} proven, truth {truth:.0%}",
            "5 points", abs(got - truth) <= 0.05, decided=decided,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=["waits", "twins", "gil", "unaccounted", "hot", "prove", "demo"])
    parser.add_argument("--python", help="only this interpreter")
    arguments = parser.parse_args()
    quick, only = arguments.quick, arguments.only
    table = Table()
    for item in interpreters():
        if arguments.python and Path(arguments.python).resolve() != Path(item["executable"]).resolve():
            continue
        free_threaded = item["free_threaded"]
        if only in (None, "waits"):
            waits(table, item, quick)
        if only in (None, "twins"):
            twins(table, item)
        if only in (None, "gil") and not free_threaded:
            gil_shares(table, item)
            if py_spy.find():
                py_spy_states(table, item)
        if only in (None, "unaccounted"):
            unaccounted(table, item)
        if only in (None, "hot") and free_threaded:
            hot_objects(table, item, quick)
        if only in (None, "prove") and free_threaded:
            proofs(table, item, quick)
    if only in (None, "demo") and not arguments.python:
        demo(table)
    if only or arguments.python:
        return
    rows = [[str(row[key]) for key in ("what", "build", "measured", "bar", "verdict")] for row in table.rows]
    summary = {"command": "make accuracy", "quick": quick, "rows": table.rows}
    heads = ["what", "build", "measured", "bar", "verdict"]
    write_summary(HERE, summary, "How right the profile is", rows, heads, NOTES)


if __name__ == "__main__":
    main()
