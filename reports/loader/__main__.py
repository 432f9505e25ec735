"""`python -m reports.loader [bars|rivals|planted]`, with the interpreter to measure; all three if none is named.

Every row is kept as soon as it is measured, with the seconds it took; `--resume` passes over those of the last
twelve hours.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reports.loader import measure, ranking, rivals


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m reports.loader", description=__doc__)
    parser.add_argument("what", nargs="*", metavar="bars|rivals|planted", help="all of them by default")
    parser.add_argument("--only", nargs="*", help="names of bars, causes or rivals")
    parser.add_argument("--resume", action="store_true", help="not again what the last twelve hours measured")
    parser.add_argument("--pairs", type=int, default=measure.PAIRS, help="interleaved pairs of each row")
    parser.add_argument("--profiler", default=measure.profiler(), help="the interpreter that runs gilprobe profile")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/gilprobe/study", help="where pictures are")
    parser.add_argument("--ahead", action="store_true", help="before all other programs of the machine; needs root")
    chosen = parser.parse_args()
    measure.PAIRS = chosen.pairs
    if chosen.ahead:
        _go_ahead()
    warnings.filterwarnings("ignore", "This DataLoader will create")
    what = chosen.what or ["bars", "planted", "rivals"]
    if "bars" in what:
        measure.run(chosen.only, chosen.work, chosen.resume, chosen.ahead)
    if "planted" in what:
        _each("planted", ranking.causes(), chosen, lambda cause: ranking.measure(chosen.profiler, [cause])[cause])
    if "rivals" in what:
        _each("rivals", list(rivals.RIVALS), chosen, lambda name: rivals.measure(chosen.work, chosen.pairs, name))


def _go_ahead() -> None:
    """A scheduling group of its own, before all others: `nice` alone orders the threads within one session only."""
    if os.getsid(0) != os.getpid():
        os.execvp("setsid", ["setsid", "--wait", *sys.orig_argv])
    Path("/proc/self/autogroup").write_text("-19")


def _each(part: str, names: list[str], chosen: argparse.Namespace, one: Callable[[str], dict[str, Any]]) -> None:
    for name in names:
        summary: dict[str, Any] = json.loads(measure.SUMMARY.read_text())
        rows = summary["builds"].setdefault(measure.build(), {}).setdefault(part, {})
        if (chosen.only and name not in chosen.only) or measure.is_recent(rows.get(name), chosen.resume):
            continue
        start = time.time()
        machine = {"cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 2), "ahead": chosen.ahead}
        rows[name] = {**one(name), "at": round(start), "took_s": round(time.time() - start), **machine}
        measure.SUMMARY.write_text(json.dumps(summary, indent=1) + "\n")
        print(measure.build(), part, name, json.dumps(rows[name]), flush=True)


if __name__ == "__main__":
    main()
