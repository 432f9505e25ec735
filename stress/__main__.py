"""The whole stress suite, into reports/stress: python -m stress [--only PART] [--python NAME] [--short] [--again].

Each part is measured on each interpreter in a process of its own; summary.json is written after each, and what stands
there for the same sources is not measured again, so that a suite that was stopped goes on. Ends with 1 if a bar is
missed or a subject is loud. Parts with a command of their own: python -m stress.mutants, .rivals, .sanitizers.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stress import page
from stress.bench import ROOT
from stress.environments import Environment, environments, variables
from stress.parts import PARTS, Part

FOLDER = ROOT / "reports" / "stress"


def digest() -> str:
    """Of all that the figures depend on."""
    found = hashlib.sha256()
    for folder in ("gilprobe/explore", "gilprobe/loader", "stress"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name not in ("page.py", "bars.py", "__main__.py"):
                found.update(path.read_bytes())
    return found.hexdigest()[:16]


class Summary:
    """The file of all rows, by part and interpreter."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
        self._lock = threading.Lock()

    def get(self, part: str, name: str) -> dict[str, Any] | None:
        return self.rows.get(part, {}).get(name)

    def put(self, part: str, name: str, row: dict[str, Any]) -> None:
        with self._lock, _only_one(self.path.parent):
            if self.path.exists():  # another suite may have written meanwhile
                self.rows = json.loads(self.path.read_text())
            self.rows.setdefault(part, {})[name] = row
            fresh = self.path.with_suffix(".new")
            fresh.write_text(json.dumps(self.rows, indent=1, sort_keys=True) + "\n")
            fresh.replace(self.path)


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def measure(part: Part, environment: Environment, before: Any, short: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out, earlier = Path(folder) / "out.json", Path(folder) / "before.json"
        command = [environment.python, "-m", "stress.parts", part.name, "--out", str(out)]
        if before is not None:
            earlier.write_text(json.dumps(before))
            command += ["--before", str(earlier)]
        if short:
            command.append("--short")
        process = subprocess.Popen(command, cwd=ROOT, env=variables(environment), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True, start_new_session=True)  # fmt: skip
        try:
            _, said = process.communicate(timeout=part.limit_s)
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {part.limit_s:.0f} s"}
        finally:
            with contextlib.suppress(ProcessLookupError):  # what it started itself goes with it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode or not out.exists():
            return {"failed": (said.strip().splitlines() or ["no output"])[-1][:300]}
        row: dict[str, Any] = json.loads(out.read_text())
        return row


def jobs(found: list[Environment], only: str, python: str) -> Iterator[tuple[Part, Environment]]:
    this = Environment("this", sys.executable)
    for part in PARTS:
        if only and part.name != only:
            continue
        for environment in [*found, this]:
            if environment.name in part.where and python in ("", environment.name):
                yield part, environment


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stress", description=__doc__)
    parser.add_argument("--only", default="", choices=[p.name for p in PARTS], metavar="PART",
                        help=", ".join(p.name for p in PARTS))  # fmt: skip
    parser.add_argument("--python", default="", metavar="NAME", help="3.11, 3.13 or 3.13t")
    parser.add_argument("--short", action="store_true", help="few seeds: shows that it works, its figures mean little")
    parser.add_argument("--again", action="store_true", help="also what stands there for the same sources")
    parser.add_argument("--minutes", type=float, default=60.0, help="no part is begun after so long")
    parser.add_argument("--lanes", type=int, default=2, help="parts measured at the same time")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    summary = Summary(options.out / "summary.json")
    sources = digest()
    end = time.monotonic() + 60 * options.minutes
    found, lacking = environments()
    for text in lacking:
        print(f"LACKING {text}", flush=True)

    def work(job: tuple[Part, Environment]) -> None:
        part, environment = job
        before = summary.get(part.name, environment.name)
        same = before is not None and before.get("sources") == sources and before.get("short") == options.short
        if same and before is not None and before.get("whole", True) and "failed" not in before and not options.again:
            print(f"there already: {part.name} on {environment.name}", flush=True)
            return
        if time.monotonic() > end:
            print(f"NOT MEASURED {part.name} on {environment.name}: out of time; the next run goes on here", flush=True)
            return
        began = time.monotonic()
        carried = before if same and before is not None and not before.get("whole", True) else None
        row = measure(part, environment, carried, options.short)
        row |= {"sources": sources, "short": options.short, "wall_s": round(time.monotonic() - began, 1)}
        summary.put(part.name, environment.name, row)
        print(f"{part.name} on {environment.name}: {row.get('failed', 'measured')} ({row['wall_s']} s)", flush=True)

    try:
        with concurrent.futures.ThreadPoolExecutor(options.lanes) as pool:
            list(pool.map(work, jobs(found, options.only, options.python)))
    finally:
        missed = page.write(options.out, summary.rows)
    for text in missed:
        print(f"MISSED {text}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
