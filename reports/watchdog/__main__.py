"""python -m reports.watchdog [--quick] [--only PART].

Whole runs write summary.json and README.md beside this file; --quick and --only print only. The planted, the alive and
the order programs are those of the tests; a run of the alive ones lasts a minute each.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment
from reports.environment import ROOT, interpreters, write_summary
from reports.statistics import PAIRS, interleaved, verdict

HERE = Path(__file__).parent
PROGRAMS = ROOT / "tests" / "integration" / "watchdog" / "programs"
WORKLOAD = ROOT / "reports" / "overhead" / "workload.py"
PLANTED = ["abba", "ring", "rlock_mix", "condition", "join_cycle", "import_lock", "executor", "full_queue", "gil_mutex"]
PLANTED += ["fork", "semaphore", "philosophers"]
SOON_S = 0.5


def watched(executable: str, arguments: list[str], folder: Path) -> float:
    variables = environment(folder, Options(rate_hz=0, watchdog_s=10.0))
    done = subprocess.run([executable, *arguments], env=variables, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def plain(executable: str, arguments: list[str]) -> float:
    done = subprocess.run([executable, *arguments], env=dict(os.environ), capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def uncontended(quick: bool) -> list[dict[str, Any]]:
    rows = []
    for item in interpreters():
        with tempfile.TemporaryDirectory() as name:
            ratio, control = interleaved(
                partial(watched, item["executable"], [str(WORKLOAD), "uncontended"], Path(name)),
                partial(plain, item["executable"], [str(WORKLOAD), "uncontended"]),
                5 if quick else PAIRS,
            )
        shown = f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
        rows.append(
            _row(
                "`with lock:` uncontended, CPU, watchdog on / off",
                item["label"],
                shown,
                1.25,
                verdict(ratio, control, 1.25),
            )
            | {"ratio": ratio.to_dict(), "control": control.to_dict()}
        )
    return rows


def checker(quick: bool) -> list[dict[str, Any]]:
    rows = []
    for item in interpreters():
        with tempfile.TemporaryDirectory() as name:
            share = watched(item["executable"], [str(HERE / "crowd.py"), "2" if quick else "10"], Path(name))
        rows.append(
            _row("the watchdog's own CPU, 1,000 threads, 10,000 locks", item["label"], f"{share:.2%} of a core", 0.005,
                 "met" if share <= 0.005 else "missed") | {"share": share}
        )  # fmt: skip
    return rows


def planted(quick: bool) -> list[dict[str, Any]]:
    rows = []
    for item in interpreters():
        latencies = [_latency_s(item["executable"], case) for case in PLANTED[:: 4 if quick else 1]]
        soon = sum(latency <= SOON_S for latency in latencies)
        worst = max(latencies)
        rows.append(
            _row("planted deadlocks told within 0.5 s of their start", item["label"],
                 f"{soon} of {len(latencies)}, the last after {worst:.2f} s", len(latencies),
                 "met" if soon == len(latencies) else "missed") | {"latencies_s": latencies}
        )  # fmt: skip
    return rows


def _latency_s(executable: str, case: str) -> float:
    """From the moment at which the program says that its threads have started; infinite where it is not told."""
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile("w+b") as err, tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            [executable, str(PROGRAMS / "planted.py"), case],
            env=environment(Path(name), Options(rate_hz=0, watchdog_s=10.0)),
            stdout=out, stderr=err, start_new_session=True,
        )  # fmt: skip
        end, told_ns = time.monotonic() + 10, 0
        while time.monotonic() < end and not told_ns:
            if b"gilprobe: deadlock" in os.pread(err.fileno(), 1 << 16, 0):
                told_ns = time.monotonic_ns()
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        out.seek(0)
        started = [int(line.split()[1]) for line in out.read().decode().splitlines() if line.startswith("start ")]
        return (told_ns - started[-1]) / 1e9 if told_ns and started else float("inf")


def alive(quick: bool) -> list[dict[str, Any]]:
    cases = [
        line.removeprefix("def ").partition("(")[0]
        for line in (PROGRAMS / "alive.py").read_text().splitlines()
        if line.startswith("def ") and line.endswith("():")
    ]
    return [_corpus("alive.py", "slow programs of which a deadlock was told", cases, ["1" if quick else "60"], "")]


def orders(quick: bool) -> list[dict[str, Any]]:
    text = (PROGRAMS / "orders.py").read_text()
    rows = []
    for kind, what in (("wrong", "contradicting lock orders told"), ("right", "right orders told as wrong")):
        cases = [line[4:].partition("(")[0] for line in text.splitlines() if line.startswith(f"def {kind}_")]
        rows.append(_corpus("orders.py", what, cases, [], "lock_order", wanted=kind == "wrong"))
    return rows


def _corpus(
    program: str, what: str, cases: list[str], more: list[str], found: str, *, wanted: bool = False
) -> dict[str, Any]:
    """One run of each case on each build; `found` names the part of the Profile that is counted."""
    told, builds = 0, interpreters()
    for item in builds:
        for case in cases:
            with tempfile.TemporaryDirectory() as name:
                subprocess.run(
                    [item["executable"], str(PROGRAMS / program), case, *more],
                    env=environment(Path(name), Options(rate_hz=0, watchdog_s=3600.0)), capture_output=True, check=True,
                )  # fmt: skip
                profile = load(name)
                told += bool(profile.lock_order if found else profile.deadlocks)
    count = len(cases) * len(builds)
    bar = count if wanted else 0
    return _row(what, "all", f"{told} of {count}", bar, "met" if told == bar else "missed")


def _row(what: str, build: str, shown: str, bar: float, outcome: str) -> dict[str, Any]:
    print(f"{what:56} {build:8} {shown}: {outcome}", flush=True)
    return {"what": what, "build": build, "shown": shown, "bar": bar, "verdict": outcome}


PARTS: dict[str, Callable[[bool], list[dict[str, Any]]]] = {
    "uncontended": uncontended,
    "checker": checker,
    "planted": planted,
    "orders": orders,
    "alive": alive,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few pairs, short programs: no verdict to quote")
    parser.add_argument("--only", choices=PARTS)
    arguments = parser.parse_args()
    rows = [row for name, part in PARTS.items() if arguments.only in (None, name) for row in part(arguments.quick)]
    if not (arguments.quick or arguments.only):
        write_summary(
            HERE,
            {"command": "python -m reports.watchdog", "pairs": PAIRS, "rows": rows},
            "The watchdog",
            [[row["what"], row["build"], row["shown"], str(row["bar"]), row["verdict"]] for row in rows],
            ["what", "build", "measured", "bar", "verdict"],
        )


if __name__ == "__main__":
    main()
