"""python -m reports.cpython [--python PATH] [--only NAME]: CPython's own tests under gilprobe profile and without.

Whole runs write summary.json and README.md beside this file; --python and --only print only. Takes an hour or more.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reports.cpython.suites import compared, in_words, suites
from reports.environment import interpreters, write_summary

HERE = Path(__file__).parent
MODULES = (
    "test_thread", "test_threading", "test_threading_local", "test_queue", "test_threadedtempfile", "test_fork1",
    "test_subprocess", "test_signal", "test_concurrent_futures", "test_multiprocessing_spawn",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", help="only this interpreter")
    parser.add_argument("--only", help="only the modules whose name contains this")
    arguments = parser.parse_args()
    rows, missing = [], []
    for suite in suites(interpreters()):
        if arguments.python and Path(arguments.python).resolve() != Path(suite.executable).resolve():
            continue
        for name in MODULES:
            modules = suite.modules(name)
            if not modules:
                missing.append(f"{name} on {suite.label}")
            for module in modules:
                if not arguments.only or arguments.only in module:
                    found = compared(suite, [module], "profile")
                    verdict = "differs" if found["different"] or found["unended"] else "same"
                    rows.append({"part": module, "build": suite.label, "verdict": verdict, **found})
                    print(f"{module:60} {suite.label:8} {in_words(found)}: {verdict}", flush=True)
                    print(*(f"  {what}\n" for what in [*found["different"], *found["unended"]]), sep="", end="")
    if missing:
        print("not shipped with the interpreter:", ", ".join(missing))
    if not (arguments.python or arguments.only):
        shown = [[row["part"], row["build"], in_words(row), row["verdict"]] for row in rows]
        notes = f"Not shipped with the interpreter: {', '.join(missing)}." if missing else ""
        summary = {"command": "make cpython", "rows": rows, "missing": missing}
        heads = ["part", "build", "with gilprobe", "result"]
        write_summary(HERE, summary, "CPython's own tests under gilprobe", shown, heads, notes)


if __name__ == "__main__":
    main()
