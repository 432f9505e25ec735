"""python -m reports.overhead [--quick] [--only PART] [--python PATH] [--seconds N].

A ratio is of 31 pairs at least, and of as many as fit into --seconds.
Whole runs write summary.json and README.md beside this file; --quick, --only and --python print only.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gilprobe.analysis import load
from gilprobe.launch import py_spy
from gilprobe.launch.target import Options, environment
from gilprobe.recording import schema
from reports.demo import pictures
from reports.environment import interpreters, write_summary
from reports.statistics import PAIRS, interleaved, ratio_of, taken_in_turn, verdict

HERE = Path(__file__).parent
WORKLOAD = HERE / "workload.py"
# case: (what the row is called, bar, builds, sampling rate)
CASES: dict[str, tuple[str, float, str, int]] = {
    "uncontended": ("`with lock:` uncontended, CPU", 1.03, "all", 0),
    "tiny_lock": ("two threads on a tiny lock", 1.05, "all", 0),
    "list_append": ("two threads on list.append", 1.05, "free-threaded", 0),
    "queues": ("two threads on queue.Queue", 1.05, "all", 0),
    "fstat": ("GIL release and retake (os.fstat), CPU", 1.05, "gil", 0),
    "threads": ("thread create and join, sampler at 100 Hz", 1.10, "all", 100),
    "cpu_bound": ("sampler at 100 Hz, CPU of two CPU-bound threads", 1.03, "all", 100),
    "cpu_bound_1000": ("sampler at 1 kHz, CPU of two CPU-bound threads", 1.10, "all", 1000),
}


def run(python: str, arguments: list[str], folder: Path | None, rate_hz: int = 0) -> float:
    variables = environment(folder, Options(rate_hz=rate_hz)) if folder else dict(os.environ)
    done = subprocess.run([python, *arguments], env=variables, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def loops(pairs: int, seconds: float, only: str | None, python: str | None) -> list[dict[str, Any]]:
    rows = []
    for case, (title, bar, builds, rate_hz) in CASES.items():
        if only and only != case:
            continue
        for item in interpreters():
            if builds != "all" and (builds == "free-threaded") != item["free_threaded"]:
                continue
            if python and Path(python).resolve() != Path(item["executable"]).resolve():
                continue
            executable, arguments = item["executable"], [str(WORKLOAD), case.removesuffix("_1000")]
            with tempfile.TemporaryDirectory() as name:
                ratio, control = interleaved(
                    partial(run, executable, arguments, Path(name), rate_hz),
                    partial(run, executable, arguments, None),
                    pairs,
                    seconds,
                )
            rows.append(_row(title, item["label"], bar, ratio, control))
    return rows


def py_spy_beside(pairs: int, seconds: float, python: str | None) -> list[dict[str, Any]]:
    """CPU of the program itself, then py-spy's own where nobody asked for it: both bars but the first are our own."""
    rows: list[dict[str, Any]] = []
    for item in interpreters() if py_spy.find() else ():
        wanted = python is None or Path(python).resolve() == Path(item["executable"]).resolve()
        if item["free_threaded"] or not wanted:
            continue
        ratio, control = interleaved(
            partial(_beside, item["executable"]), partial(run, item["executable"], [str(WORKLOAD), "cpu_bound"], None),
            pairs, seconds,
        )  # fmt: skip
        rows.append(_row("py-spy at 100 Hz, CPU of two CPU-bound threads", item["label"], 1.03, ratio, control))
        own = sorted(_own_share(item["executable"]) for _ in range(3 if pairs == PAIRS else 1))
        rows.append(_figure("py-spy unasked beside four threads, % of a core", own, 2.0))
    return rows


def _own_share(python: str) -> float:
    code = (
        "import threading, time\nend = time.monotonic() + 10\n"
        "def body():\n while time.monotonic() < end: sum(range(500))\n"
        "threads = [threading.Thread(target=body) for _ in range(3)]\n[t.start() for t in threads]\nbody()"
    )
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "gilprobe", "profile", "-q", "-o", f"{name}/r", "--python", python, "-c", code]
        subprocess.run(command, check=True, capture_output=True)
        meta = load(f"{name}/r").meta
        return 100 * float(meta.get("stacks_cpu_s", math.inf)) / float(meta["wall_s"])


def _beside(python: str) -> float:
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "gilprobe", "profile", "-q", "-o", f"{name}/r", "--sampler", "py-spy"]
        return run(sys.executable, [*command[1:], "--python", python, str(WORKLOAD), "cpu_bound"], None)


def demo(pairs: int, seconds: float) -> list[dict[str, Any]]:
    """The demo on gilprobe's own interpreter and on the free-threaded environment, CPU and wall of the same runs."""
    pictures.make()
    rows = []
    script = str(HERE.parent / "demo" / "thumbnails.py")
    for python, label in ((sys.executable, "GIL"), (str(HERE.parent.parent / ".venv-t/bin/python"), "free-threaded")):
        if not Path(python).exists():
            continue
        with tempfile.TemporaryDirectory() as name:
            on, off = partial(_timed, python, script, Path(name)), partial(_timed, python, script, None)
            taken = taken_in_turn(on, off, pairs, 4 * seconds)
        for number, measure in enumerate(("CPU", "wall")):
            ons, offs, controls = ([values[number] for values in runs] for runs in taken)
            ratio, control = ratio_of(ons, offs), ratio_of(controls, offs)
            rows.append(_row(f"the demo, {measure}, sampler at 100 Hz", label, 1.02, ratio, control))
    return rows


def _timed(python: str, script: str, folder: Path | None) -> tuple[float, float]:
    """Seconds of CPU and wall."""
    variables = environment(folder, Options(rate_hz=100)) if folder else dict(os.environ)
    before, start = os.times(), time.perf_counter()
    subprocess.run([python, script, "--rounds", "1", "--threads", "2"], env=variables, capture_output=True, check=True)
    wall, after = time.perf_counter() - start, os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system, wall


def start_up(pairs: int) -> list[dict[str, Any]]:
    """Milliseconds added inside the target to `-c pass`, and the whole command with its summary."""
    added, whole = [], []
    for number in range(pairs):
        with tempfile.TemporaryDirectory() as name:
            seconds: dict[bool, float] = {}
            for recorded in (False, True) if number % 2 else (True, False):
                variables = environment(Path(name), Options()) if recorded else dict(os.environ)
                start = time.perf_counter()
                subprocess.run([sys.executable, "-c", "pass"], env=variables, check=True)
                seconds[recorded] = time.perf_counter() - start
            added.append(1e3 * (seconds[True] - seconds[False]))
            start = time.perf_counter()
            command = [sys.executable, "-m", "gilprobe", "profile", "-o", f"{name}/r", "-c", "pass"]
            subprocess.run(command, check=True, capture_output=True)
            whole.append(time.perf_counter() - start)
    return [
        _figure("start-up added inside the target, ms", sorted(added), 15.0),
        _figure("the whole command on `-c pass`, s", sorted(whole), 0.5),
    ]


def size(seconds: int) -> list[dict[str, Any]]:
    """Bytes of a recording of eight threads that contend for one lock all the time, in MB for 60 s."""
    code = (
        "import threading, time\nlock = threading.Lock()\nend = time.monotonic() + "
        f"{seconds}\ndef body():\n while time.monotonic() < end:\n  with lock: sum(range(50))\n"
        "threads = [threading.Thread(target=body) for _ in range(8)]\n"
        "[t.start() for t in threads]\n[t.join() for t in threads]"
    )
    with tempfile.TemporaryDirectory() as name:
        subprocess.run([sys.executable, "-c", code], env=environment(Path(name), Options(rate_hz=0)), check=True)
        megabytes = sum(path.stat().st_size for path in Path(name).iterdir()) / 1e6
    return [_figure(f"recording of {seconds} s with 8 contended threads, MB", [megabytes], 2.0)]


def in_code(pairs: int) -> list[dict[str, Any]]:
    """The bars are our own: no one asked for any."""
    from reports.overhead.in_code import measure

    bars = {"a span that nothing records, us": 0.5, "a recorded span, us": 5.0}
    return [_figure(what, values, bars.get(what, 50.0)) for what, values in measure(pairs).items()]


def events(count: int = 10_000_000) -> list[dict[str, Any]]:
    """Events written as the recorder writes them, then analysed in a process of their own.

    The reader maps the file. Less memory at its peak than the events take means that they were not read, only found.
    """
    from reports.overhead.many_events import analyse

    seconds, gigabytes = analyse(count)
    rows = [
        _figure(f"analysis of {count / 1e6:g} million events, s", [seconds], 15.0),
        _figure(f"analysis of {count / 1e6:g} million events, GB", [gigabytes], 1.5),
    ]
    events_gb = count * schema.EVENT_RECORD.itemsize / 1e9
    for row in rows:
        row["events_gb"] = events_gb
        if gigabytes < events_gb:
            row["what"] += f" ({events_gb:.2g} GB of events were mapped, not read)"
            row["verdict"] = "undecided"
            print(f"{row['what']}: undecided", flush=True)
    return rows


def long_run(seconds: int, rate_hz: int = 1000, threads: int = 8) -> list[dict[str, Any]]:
    """As if each thread had a core for itself all the time: no run of that length has more samples."""
    from reports.overhead.many_events import page_of_samples

    title = f"page of {seconds} s at {rate_hz} Hz with {threads} busy threads, s"
    free_threaded = [item for item in interpreters() if item["free_threaded"]]
    return [
        _figure(title, [page_of_samples(item["executable"], seconds * rate_hz * threads)], 20.0)
        for item in free_threaded
    ]


def _row(title: str, build: str, bar: float, ratio: Any, control: Any) -> dict[str, Any]:
    row = {
        "what": title,
        "build": build,
        "bar": bar,
        "ratio": ratio.to_dict(),
        "control": control.to_dict(),
        "verdict": verdict(ratio, control, bar),
    }
    print(
        f"{title:52} {build:14} {ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f}), control "
        f"{control.median:.3f} ({control.low:.3f} to {control.high:.3f}), {ratio.pairs} pairs: {row['verdict']}",
        flush=True,
    )
    return row


def _figure(title: str, values: list[float], bar: float) -> dict[str, Any]:
    median = values[len(values) // 2]
    row = {
        "what": title,
        "build": "GIL",
        "bar": bar,
        "median": median,
        "range": [values[0], values[-1]],
        "verdict": "met" if median <= bar else "missed",
    }
    print(f"{title:52} {'':14} {median:.3g} ({values[0]:.3g} to {values[-1]:.3g}): {row['verdict']}", flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few pairs, 6 s, a million events: no verdict to quote")
    parts: dict[str, Callable[[int], list[dict[str, Any]]]] = {
        "py_spy": lambda pairs: py_spy_beside(pairs, seconds, arguments.python),
        "start_up": start_up,
        "size": lambda pairs: size(60 if pairs == PAIRS else 6),
        "events": lambda pairs: events(10_000_000 if pairs == PAIRS else 1_000_000),
        "long_run": lambda pairs: long_run(600 if pairs == PAIRS else 60),
        "demo": lambda pairs: demo(pairs, seconds),
        "in_code": in_code,
    }
    parser.add_argument("--only", choices=[*CASES, "py_spy", *parts])
    parser.add_argument("--python", help="of the loops, only those on this interpreter")
    parser.add_argument("--seconds", type=float, default=45.0, help="for each ratio, four times that for the demo's")
    arguments = parser.parse_args()
    pairs, seconds = (5, 0.0) if arguments.quick else (PAIRS, arguments.seconds)
    rows = loops(pairs, seconds, arguments.only, arguments.python) if arguments.only not in parts else []
    for name, part in parts.items():
        if arguments.only == name or not (arguments.only or arguments.python):
            rows += part(pairs)
    if not (arguments.quick or arguments.only or arguments.python):
        summary = {"command": "make bench", "pairs_at_least": pairs, "rows": rows}
        shown = [[r["what"], r["build"], _shown(r), str(r["bar"]), r["verdict"]] for r in rows]
        write_summary(
            HERE, summary, "What recording costs", shown, ["what", "build", "median (95 % bounds)", "bar", "verdict"]
        )


def _shown(row: dict[str, Any]) -> str:
    if "ratio" in row:
        ratio = row["ratio"]
        return f"{ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f}), {ratio['pairs']} pairs"
    return f"{row['median']:.3g} ({row['range'][0]:.3g} to {row['range'][1]:.3g})"


if __name__ == "__main__":
    main()
