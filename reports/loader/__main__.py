"""`python -m reports.loader [bars|rivals|planted]`, with the interpreter to measure; all three if none is named."""

from __future__ import annotations

import argparse
import json
import os
import warnings
from pathlib import Path
from typing import Any

from reports.loader import measure, ranking, rivals


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m reports.loader", description=__doc__)
    parser.add_argument("what", nargs="*", metavar="bars|rivals|planted", help="all of them by default")
    parser.add_argument("--only", nargs="*", help="names of bars or causes")
    parser.add_argument("--pairs", type=int, default=31, help="interleaved pairs of each rival")
    parser.add_argument("--profiler", default=measure.profiler(), help="the interpreter that runs gilprobe profile")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/gilprobe/study", help="where pictures are")
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore", "This DataLoader will create")
    what = chosen.what or ["bars", "planted", "rivals"]
    if "bars" in what:
        measure.run(chosen.only, chosen.work)
    if "planted" in what:
        _keep("planted", ranking.measure(chosen.profiler, chosen.only))
    if "rivals" in what:
        _keep("rivals", rivals.measure(chosen.work, chosen.pairs))


def _keep(name: str, found: dict[str, Any]) -> None:
    summary: dict[str, Any] = json.loads(measure.SUMMARY.read_text())
    found = {"cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 2), **found}
    summary["builds"].setdefault(measure.build(), {})[name] = found
    measure.SUMMARY.write_text(json.dumps(summary, indent=1) + "\n")
    print(measure.build(), name, json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
