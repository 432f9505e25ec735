"""python -m reports.overhead [--quick] [--only PART] [--python PATH] [--seconds N].

A ratio is of 31 sets (lockstep.py) or pairs at least, and of as many as fit into --seconds.
summary.json and README.md beside this file are written after each part; --only replaces the rows of its part there.
--quick and --python print only.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gilprobe.analysis import load
from gilprobe.launch import py_spy
from gilprobe.launch.target import Options, environment
from gilprobe.recording import schema
from reports.demo import pictures
from reports.environment import ROOT, interpreters, write_summary
from reports.overhead import lockstep
from reports.overhead.workload import OPERATIONS
from reports.statistics import PAIRS, Median, interleaved, verdict

HERE = Path(__file__).parent
SAMPLE = "sample"
NOTES = """A ratio of sets: three processes of one interpreter, recorded, not recorded and once more not recorded (the
control, in summary.json), work in turn, 20 ms or so at a time. A set counts once, by the median of its slices. A ratio
of pairs: whole runs in turn. Added: what recording makes an event dearer by. The hooks' rows are without the sampler,
whose own rows say its rate. One core: threads that hold the GIL in turn; on two cores it matters more which of them
sits where than what records them. Starting and ending a recording is not in the slices; it has its own rows. The demo
is its own service in a pool of two threads, twelve pictures a slice, and glibc is told to keep what is freed: without
that, some runs of the demo itself fault many times as many pages as others."""


@dataclass(frozen=True)
class Case:
    """work: of workload.py. event: what the added time is given for. two_threads: those of a GIL build share a core."""

    title: str
    bar: float
    work: str
    event: str
    measures: tuple[str, ...] = ("CPU",)
    builds: str = "all"
    rate_hz: int = 0
    two_threads: bool = False
    variables: tuple[tuple[str, str], ...] = ()


# glibc then keeps what is freed. Else a process either does so by itself or faults many more pages in anew, and which
# of the two it is decides the ratio.
KEPT = (("MALLOC_TRIM_THRESHOLD_", "1073741824"), ("MALLOC_MMAP_THRESHOLD_", "268435456"))
BOTH = ("CPU", "wall")
CASES = {
    "uncontended": Case("`with lock:` uncontended", 1.03, "uncontended", "with"),
    "tiny_lock": Case("two threads on a tiny lock", 1.05, "tiny_lock", "with", BOTH, two_threads=True),
    "list_append": Case(
        "two threads on list.append", 1.05, "list_append", "append", BOTH, "free-threaded", two_threads=True
    ),
    "queues": Case("two threads on queue.Queue", 1.05, "queues", "put and get", BOTH, two_threads=True),
    "fstat": Case("GIL release and retake (os.fstat)", 1.05, "fstat", "call", builds="gil"),
    "threads": Case("thread create and join, sampler at 100 Hz", 1.10, "threads", "thread", BOTH, rate_hz=100),
    "cpu_bound": Case(
        "two CPU-bound threads, sampler at 100 Hz", 1.03, "cpu_bound", SAMPLE, rate_hz=100, two_threads=True
    ),
    "cpu_bound_1000": Case(
        "two CPU-bound threads, sampler at 1 kHz", 1.10, "cpu_bound", SAMPLE, rate_hz=1000, two_threads=True
    ),
    "demo": Case("the demo, sampler at 100 Hz", 1.02, "thumbnails", "picture", BOTH, rate_hz=100, variables=KEPT),
}


def loops(name: str, least: int, seconds: float, python: str | None) -> list[dict[str, Any]]:
    case = CASES[name]
    return [
        row
        for item in (environments() if name == "demo" else interpreters())
        if (case.builds == "all" or (case.builds == "free-threaded") == item["free_threaded"])
        and (python is None or Path(python).resolve() == Path(item["executable"]).resolve())
        for row in _compared(case, item, least, seconds)
    ]


def environments() -> list[dict[str, Any]]:
    """Those of this project, which have Pillow; the demo's photographs are made if need be."""
    pictures.make()
    found: list[dict[str, Any]] = [
        {"executable": sys.executable, "free_threaded": False, "label": "GIL"},
        {"executable": str(ROOT / ".venv-t/bin/python"), "free_threaded": True, "label": "free-threaded"},
    ]
    return [item for item in found if Path(item["executable"]).exists()]


def _compared(case: Case, item: dict[str, Any], least: int, seconds: float) -> list[dict[str, Any]]:
    rows = []
    one_core = case.two_threads and not item["free_threaded"]
    options = Options(rate_hz=case.rate_hz)
    taken = lockstep.measure(
        item["executable"], case.work, options,
        one_core=one_core, seconds=seconds, least=least, variables=dict(case.variables),
    )  # fmt: skip
    for measure in case.measures:
        compared = lockstep.compare(taken[measure])
        events = float(OPERATIONS[case.work])
        if case.event == SAMPLE:
            events = case.rate_hz * float(np.median(taken["CPU"][:, lockstep.ON]))
        title, found = f"{case.title}, {measure}{', one core' * one_core}", compared.verdict(case.bar)
        row = _row(title, item["label"], case.bar, compared.ratio, compared.control, found)
        row |= {
            "sums": compared.sums.to_dict(),
            "event": case.event,
            "added_us": {key: 1e6 * getattr(compared.added_s, key) / events for key in ("median", "low", "high")},
        }
        print(f"{'':4} added {_added(row)}; all slices together {_between(row['sums'])}", flush=True)
        rows.append(row)
    return rows


def py_spy_beside(pairs: int, seconds: float, python: str | None) -> list[dict[str, Any]]:
    """CPU of the program itself, then py-spy's own where nobody asked for it: both bars but the first are our own."""
    rows: list[dict[str, Any]] = []
    for item in interpreters() if py_spy.find() else ():
        wanted = python is None or Path(python).resolve() == Path(item["executable"]).resolve()
        if item["free_threaded"] or not wanted:
            continue
        ratio, control = interleaved(
            partial(_beside, item["executable"]), partial(_slices, [item["executable"]]), pairs, seconds
        )
        title, found = "two CPU-bound threads, py-spy at 100 Hz, CPU", verdict(ratio, control, 1.03)
        rows.append(_row(title, item["label"], 1.03, ratio, control, found))
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
        return _slices([*command, "--python", python])


def _slices(command: list[str], count: int = 15) -> float:
    """CPU seconds of so many. py-spy works beside its program all the time: it would work into another's slice, too."""
    command = [*command, str(lockstep.WORKLOAD), "cpu_bound"]
    done = subprocess.run(command, input="." * count, capture_output=True, text=True, check=True)
    return sum(float(line.split()[0]) for line in done.stdout.splitlines())


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


def _row(title: str, build: str, bar: float, ratio: Median, control: Median, found: str) -> dict[str, Any]:
    row: dict[str, Any] = {"what": title, "build": build, "bar": bar}
    row |= {"ratio": ratio.to_dict(), "control": control.to_dict(), "verdict": found}
    shown = f"{_between(row['ratio'])}, control {_between(row['control'])}"
    print(f"{title:52} {build:14} {shown}, of {ratio.pairs}: {found}", flush=True)
    return row


def _between(median: dict[str, Any]) -> str:
    return f"{median['median']:.3f} ({median['low']:.3f} to {median['high']:.3f})"


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
    parser.add_argument("--quick", action="store_true", help="few sets, 6 s, a million events: no verdict to quote")
    parts: dict[str, Callable[[int], list[dict[str, Any]]]] = {
        "py_spy": lambda pairs: py_spy_beside(pairs, seconds, arguments.python),
        "start_up": start_up,
        "size": lambda pairs: size(60 if pairs == PAIRS else 6),
        "events": lambda pairs: events(10_000_000 if pairs == PAIRS else 1_000_000),
        "long_run": lambda pairs: long_run(600 if pairs == PAIRS else 60),
        "in_code": in_code,
    }
    parser.add_argument("--only", choices=[*CASES, *parts])
    parser.add_argument("--python", help="of the loops, only those on this interpreter")
    parser.add_argument("--seconds", type=float, default=0.0, help="for each ratio, where more than its 31 take")
    arguments = parser.parse_args()
    pairs, seconds = (5, 0.0) if arguments.quick else (PAIRS, arguments.seconds)
    parts = {name: partial(_looped, name, seconds, arguments.python) for name in CASES} | parts
    summary = json.loads((HERE / "summary.json").read_text())
    for name, part in parts.items():
        if arguments.only not in (None, name) or (arguments.python and name not in (*CASES, "py_spy")):
            continue
        about = {"part": name, "begun": f"{datetime.now(UTC):%Y-%m-%d %H:%M}", "load": round(os.getloadavg()[0], 1)}
        found = [row | about for row in part(pairs)]
        if not (arguments.quick or arguments.python):
            _write(sorted(
                [*found, *(row for row in summary["rows"] if row.get("part") in {*parts} - {name})],
                key=lambda row: [*parts].index(row["part"]),
            ), summary, pairs)  # fmt: skip


def _looped(name: str, seconds: float, python: str | None, pairs: int) -> list[dict[str, Any]]:
    return loops(name, pairs, seconds, python)


def _write(rows: list[dict[str, Any]], summary: dict[str, Any], pairs: int) -> None:
    summary |= {"command": "make bench", "pairs_at_least": pairs, "rows": rows}
    shown = [
        [r["what"], r["build"], _shown(r), _added(r), str(r["bar"]), r["verdict"], f"{r['begun']}, {r['load']}"]
        for r in rows
    ]
    write_summary(
        HERE, {key: summary[key] for key in ("command", "pairs_at_least", "rows")}, "What recording costs", shown,
        ["what", "build", "median (95 % bounds)", "added (95 % bounds)", "bar", "verdict", "begun (UTC), load then"],
        NOTES,
    )  # fmt: skip


def _shown(row: dict[str, Any]) -> str:
    if "ratio" in row:
        return f"{_between(row['ratio'])}, {row['ratio']['pairs']} {'sets' if 'sums' in row else 'pairs'}"
    return f"{row['median']:.3g} ({row['range'][0]:.3g} to {row['range'][1]:.3g})"


def _added(row: dict[str, Any]) -> str:
    if "added_us" not in row:
        return ""
    factor, unit = (1e3, "ns") if abs(row["added_us"]["median"]) < 0.5 else (1.0, "us")
    median, low, high = (factor * row["added_us"][key] for key in ("median", "low", "high"))
    return f"{median:.3g} {unit} a {row['event']} ({low:.3g} to {high:.3g})"


if __name__ == "__main__":
    main()
