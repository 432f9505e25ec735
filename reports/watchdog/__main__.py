"""python -m reports.watchdog [--quick] [--only PART].

Each part that is done goes into summary.json and README.md beside this file, so that a run that was cut short goes on
with --only; --quick prints only. The planted, the alive and the order programs are those of the tests; the alive ones
run for a minute, side by side. All together take some twelve minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment
from reports.cpython.suites import compared, in_words, suites
from reports.environment import ROOT, interpreters, write_summary
from reports.overhead import lockstep
from reports.statistics import PAIRS

HERE = Path(__file__).parent
PROGRAMS = ROOT / "tests" / "integration" / "watchdog" / "programs"
ZOO = ROOT / "reports" / "zoo"
PLANTED = ["abba", "ring", "rlock_mix", "condition", "join_cycle", "import_lock", "executor", "full_queue", "gil_mutex"]
PLANTED += ["fork", "semaphore", "philosophers"]
MODULES = ("test_thread", "test_threading_local", "test_queue", "test_threading", "test_concurrent_futures")
SOON_S, ROUNDS = 0.5, 3
SIDE_BY_SIDE = 30


def watched(executable: str, arguments: list[str], folder: Path) -> float:
    variables = environment(folder, Options(rate_hz=0, watchdog_s=10.0))
    done = subprocess.run([executable, *arguments], env=variables, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def uncontended(quick: bool) -> list[dict[str, Any]]:
    rows = []
    for item in interpreters():
        options = Options(rate_hz=0, watchdog_s=10.0)
        taken = lockstep.measure(item["executable"], "uncontended", options, least=5 if quick else PAIRS)
        found = lockstep.compare(taken["CPU"])
        ratio = found.ratio
        rows.append(
            _row(
                "`with lock:` uncontended, CPU, watchdog on / off",
                item["label"],
                f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})",
                1.25,
                found.verdict(1.25),
            )
            | {"ratio": ratio.to_dict(), "control": found.control.to_dict()}
        )
    return rows


def checker(quick: bool) -> list[dict[str, Any]]:
    """still: all wait for one thing, for longer than the limit; busy: two locks go around among twenty of them."""
    rows = []
    for how in ("still", "busy"):
        for item in interpreters():
            with tempfile.TemporaryDirectory() as name:
                share = watched(item["executable"], [str(HERE / "crowd.py"), "2" if quick else "12", how], Path(name))
            what = f"the watchdog's own CPU, 1,000 threads, 10,000 locks, {how}"
            outcome = "met" if share <= 0.005 else "missed"
            row = _row(what, item["label"], f"{share:.2%} of a core", 0.005, outcome)
            rows.append(row | {"share": share})
    return rows


def planted(quick: bool) -> list[dict[str, Any]]:
    return _planted("planted deadlocks told within 0.5 s of their start", PLANTED[:: 4 if quick else 1], 1)


def rounds(quick: bool) -> list[dict[str, Any]]:
    """The same again and again, on an idle machine and with every core busy."""
    times = 1 if quick else ROUNDS
    rows = _planted(f"the same, {times} rounds of all", PLANTED[:: 4 if quick else 1], times)
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        rows += _planted(f"the same, {times} rounds, every core busy", PLANTED[:: 4 if quick else 1], times)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    return rows


def _planted(what: str, cases: list[str], times: int) -> list[dict[str, Any]]:
    rows = []
    for item in interpreters():
        runs = [case for _ in range(times) for case in cases]
        latencies = [_latency_s(item["executable"], case) for case in runs]
        soon = sum(latency <= SOON_S for latency in latencies)
        worst = max(range(len(runs)), key=latencies.__getitem__)
        shown = f"{soon} of {len(runs)}, the slowest ({runs[worst]}) after {latencies[worst]:.2f} s"
        rows.append(
            _row(what, item["label"], shown, len(runs), "met" if soon == len(runs) else "missed")
            | {"slowest_s": {case: max(t for c, t in zip(runs, latencies, strict=True) if c == case) for case in cases}}
        )
    return rows


def cpython(quick: bool) -> list[dict[str, Any]]:
    rows = []
    for suite in suites(interpreters()):
        names = MODULES[:2] if quick else MODULES
        found = compared(suite, [module for name in names for module in suite.modules(name)], "watchdog")
        worse = found["different"] + found["told"] + found["unended"]
        row = _row("CPython's own tests, under the watchdog against without", suite.label, in_words(found), 0,
                   "missed" if worse else "met")  # fmt: skip
        rows.append(row | found)
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
    """All side by side: they sleep or are blocked, and a busy machine is what may fool the watchdog."""
    cases = [
        line.removeprefix("def ").partition("(")[0]
        for line in (PROGRAMS / "alive.py").read_text().splitlines()
        if line.startswith("def ") and line.endswith("():")
    ]
    return [_corpus("alive.py", "slow programs of which a deadlock was told", cases, ["1" if quick else "60"], "")]


def zoo(quick: bool) -> list[dict[str, Any]]:
    """Programs that contend and wait in every way, none of them wrongly."""
    runs = [
        (item["executable"], program, case)
        for item in interpreters()
        for program in ("locks", "idle", "busy", "native")
        for case in re.findall(r"^def ([a-z]\w*)\(\)", (ZOO / f"{program}.py").read_text(), re.MULTILINE)
    ][:: 20 if quick else 1]
    told = []
    for executable, program, case in runs:
        with tempfile.TemporaryDirectory() as name:
            subprocess.run(
                [executable, str(ZOO / f"{program}.py"), case],
                env=environment(Path(name), Options(rate_hz=0, watchdog_s=10.0)), capture_output=True, check=True,
            )  # fmt: skip
            profile = load(name)
            if profile.deadlocks or profile.stalls or profile.lock_order:
                told.append(f"{Path(executable).name} {program} {case}")
    row = _row("programs of the zoo of which anything was told", "all", f"{len(told)} of {len(runs)}", 0,
               "missed" if told else "met")  # fmt: skip
    return [row | {"told": told}]


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

    def tells(executable: str, case: str) -> bool:
        with tempfile.TemporaryDirectory() as name:
            subprocess.run(
                [executable, str(PROGRAMS / program), case, *more],
                env=environment(Path(name), Options(rate_hz=0, watchdog_s=3600.0)), capture_output=True, check=True,
            )  # fmt: skip
            profile = load(name)
            return bool(profile.lock_order if found else profile.deadlocks)

    runs = [(item["executable"], case) for item in interpreters() for case in cases]
    with ThreadPoolExecutor(SIDE_BY_SIDE if more else 2) as pool:
        told = [run for run, tell in zip(runs, pool.map(lambda run: tells(*run), runs), strict=True) if tell]
    bar = len(runs) if wanted else 0
    row = _row(what, "all", f"{len(told)} of {len(runs)}", bar, "met" if len(told) == bar else "missed")
    return row | {"told": [f"{Path(executable).name} {case}" for executable, case in told]}


def _row(what: str, build: str, shown: str, bar: float, outcome: str) -> dict[str, Any]:
    print(f"{what:56} {build:8} {shown}: {outcome}", flush=True)
    return {"what": what, "build": build, "shown": shown, "bar": bar, "verdict": outcome}


PARTS: dict[str, Callable[[bool], list[dict[str, Any]]]] = {
    "uncontended": uncontended,
    "checker": checker,
    "planted": planted,
    "rounds": rounds,
    "orders": orders,
    "zoo": zoo,
    "alive": alive,
    "cpython": cpython,
}
BARS = ("uncontended", "checker", "planted", "orders")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few pairs, short programs: no verdict to quote")
    parser.add_argument("--only", choices=[*PARTS, "bars"], help="bars: " + ", ".join(BARS))
    arguments = parser.parse_args()
    wanted = BARS if arguments.only == "bars" else (arguments.only,) if arguments.only else tuple(PARTS)
    for name in wanted:
        rows = PARTS[name](arguments.quick)
        if not arguments.quick:
            _keep(name, rows)


def _keep(name: str, rows: list[dict[str, Any]]) -> None:
    """The other parts stay as they were last measured."""
    file = HERE / "summary.json"
    parts = json.loads(file.read_text())["parts"] if file.exists() else {}
    parts[name] = {"measured": time.strftime("%Y-%m-%d"), "load": round(os.getloadavg()[1], 1), "rows": rows}
    shown = [row for part in PARTS if part in parts for row in parts[part]["rows"]]
    write_summary(
        HERE,
        {"command": "python -m reports.watchdog", "pairs": PAIRS, "parts": parts},
        "The watchdog",
        [[row["what"], row["build"], row["shown"], str(row["bar"]), row["verdict"]] for row in shown],
        ["what", "build", "measured", "bar", "verdict"],
        "Load average (two cores) of the five minutes before the end of each part: "
        + ", ".join(f"{part} {parts[part].get('load', 'not noted')}" for part in PARTS if part in parts)
        + ".",
    )


if __name__ == "__main__":
    main()
