"""python -m reports.cpython [--python PATH] [--only NAME]: CPython's own tests with and without gilprobe.

Each part runs by `python -m test` and by `gilprobe profile -m test`; a part that differs is run twice more, both ways.
Whole runs write summary.json and README.md beside this file; --python and --only print only. Takes an hour or more.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from reports.environment import ROOT, interpreters, write_summary

HERE = Path(__file__).parent
MODULES = (
    "test_thread", "test_threading", "test_threading_local", "test_queue", "test_threadedtempfile", "test_fork1",
    "test_subprocess", "test_signal", "test_concurrent_futures", "test_multiprocessing_spawn",
)  # fmt: skip
# Up to 3.11 these two are one file each, of many minutes: parts by the names of their classes.
PATTERNS = {
    "test_concurrent_futures": ["*ThreadPool*", "*ProcessPoolFork*", "*ProcessPoolSpawn*", "*ProcessPoolForkserver*"],
    "test_multiprocessing_spawn": ["*WithProcesses*", "*WithThreads*", "*WithManager*"],
}
LIMIT_S = 900.0
# regrtest's own words, by which two runs are compared: how many tests ran, failed, were skipped.
RESULT = re.compile(r"^(Total tests|Result|Tests result|== Tests result):.*$|^Ran \d+ tests?|^(OK|FAILED)\b.*$", re.M)
TIMES = re.compile(r" in [\d.]+(ms|s|sec)\b|\s+$")


def parts(python: str, module: str) -> list[tuple[str, list[str]]]:
    """(what it is called, the words after -m test)."""
    listed = subprocess.run(
        [python, "-c", f"import test.{module} as m; print(*getattr(m, '__path__', ['']))"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        return []
    folder = listed.stdout.strip()
    if folder:
        names = sorted(path.stem for path in Path(folder).glob("test_*.py"))
        return [(f"{module}.{name}", [f"test.{module}.{name}"]) for name in names]
    if module not in PATTERNS:
        return [(module, [module])]
    chosen = [(f"{module} {pattern}", [module, "-m", pattern]) for pattern in PATTERNS[module]]
    others = [word for pattern in PATTERNS[module] for word in ("-i", pattern)]
    return [*chosen, (f"{module}, the others", [module, *others])]


def run(python: str, words: list[str], recorded: bool) -> dict[str, Any]:
    """{status, result, seconds}; a status of None: it did not end in time."""
    with tempfile.TemporaryDirectory() as name:
        command = [python]
        if recorded:
            command = [sys.executable, "-m", "gilprobe", "profile", "-q", "-o", f"{name}/r", "--python", python]
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, "-m", "test", "-v", *words], cwd=ROOT, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            out, _ = process.communicate(timeout=LIMIT_S)
            status: int | None = process.returncode
        except subprocess.TimeoutExpired:
            subprocess.run(["kill", "-9", "--", f"-{process.pid}"], check=False)
            out, status = process.communicate()[0], None
    found = [TIMES.sub("", match.group()) for match in RESULT.finditer(out)]
    failed = sorted(set(re.findall(r"^(?:FAIL|ERROR): (.*)$", out, re.M)))
    return {"status": status, "result": found, "failed": failed, "seconds": round(time.perf_counter() - start, 1)}


def same(plain: dict[str, Any], recorded: dict[str, Any]) -> bool:
    return all(plain[key] == recorded[key] for key in ("status", "result", "failed"))


def compare(python: str, label: str, part: str, words: list[str]) -> dict[str, Any]:
    runs: list[dict[str, Any]] = []
    for _ in range(3):
        runs.append({"plain": run(python, words, False), "recorded": run(python, words, True)})
        if same(runs[-1]["plain"], runs[-1]["recorded"]):
            break
    verdict = "same" if len(runs) == 1 else "same when run again" if same(**runs[-1]) else "differs"
    last = runs[-1]
    row = {"part": part, "build": label, "verdict": verdict, "runs": runs}
    print(
        f"{part:60} {label:8} {last['plain']['seconds']:6.1f} s, {last['recorded']['seconds']:6.1f} s: {verdict}",
        *([f"\n  without: {r['plain']}\n  with:    {r['recorded']}" for r in runs] if len(runs) > 1 else []),
        flush=True,
    )  # fmt: skip
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", help="only this interpreter")
    parser.add_argument("--only", help="only the parts whose name contains this")
    arguments = parser.parse_args()
    rows, missing = [], []
    for item in interpreters():
        python = item["executable"]
        if arguments.python and Path(arguments.python).resolve() != Path(python).resolve():
            continue
        for module in MODULES:
            found = parts(python, module)
            if not found:
                missing.append(f"{module} on {item['label']}")
            for part, words in found:
                if not arguments.only or arguments.only in part:
                    rows.append(compare(python, item["label"], part, words))
    if missing:
        print("not shipped with the interpreter:", ", ".join(missing))
    if not (arguments.python or arguments.only):
        shown = [[row["part"], row["build"], *_shown(row), row["verdict"]] for row in rows]
        heads = ["part", "build", "without", "with gilprobe", "same result"]
        notes = f"Not shipped with the interpreter: {', '.join(missing)}." if missing else ""
        summary = {"command": "make cpython", "rows": rows, "missing": missing}
        write_summary(HERE, summary, "CPython's own tests under gilprobe", shown, heads, notes)


def _shown(row: dict[str, Any]) -> list[str]:
    last = row["runs"][-1]
    return [f"{', '.join(last[side]['result'][-1:])} ({last[side]['seconds']} s)" for side in ("plain", "recorded")]


if __name__ == "__main__":
    main()
