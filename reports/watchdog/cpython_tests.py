"""CPython's own tests of threads, queues and executors, under the watchdog and without."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment

SUITE = Path(__file__).parent / "suite.py"
MODULES = ("test_thread", "test_threading_local", "test_queue", "test_threading", "test_concurrent_futures")
QUICK = ("test_thread", "test_threading_local")
SIDE_BY_SIDE = 2
LIMIT_S, AGAIN = 400.0, 3
# test_4_daemon_threads does not end on free-threaded 3.13.5, whether or not the watchdog is on.
HANGS = {True: ("test_4_daemon_threads",), False: ()}


@dataclass
class Outcome:
    """tests: id -> how it ended, the last word on each. told: what the watchdog said, in all processes."""

    tests: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    ended: bool = True


@dataclass(frozen=True)
class Suite:
    """tests: the folder of the `test` package; another interpreter's where this one came without."""

    executable: str
    label: str
    free_threaded: bool
    tests: Path
    borrowed_from: str

    def modules(self, quick: bool) -> list[str]:
        found = []
        for name in QUICK if quick else MODULES:
            if (self.tests / f"{name}.py").exists():
                found.append(f"test.{name}")
            found += sorted(f"test.{name}.{part.stem}" for part in (self.tests / name).glob("test_*.py"))
        return found

    def run(self, names: Sequence[str], watched: bool) -> Outcome:
        with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile("w+") as err:
            folder, out, path = Path(scratch) / "r", Path(scratch) / "out.json", Path(scratch) / "path"
            folder.mkdir()
            path.mkdir()
            variables = environment(folder, Options(rate_hz=0, watchdog_s=10.0)) if watched else dict(os.environ)
            if self.borrowed_from:
                (path / "test").symlink_to(self.tests)
                variables["PYTHONPATH"] = str(path)
            skip = [f"--skip={name}" for name in HANGS[self.free_threaded]]
            process = subprocess.Popen(
                [self.executable, str(SUITE), *skip, str(out), *names],
                env=variables, stdin=subprocess.DEVNULL, stdout=err, stderr=err, cwd=scratch, start_new_session=True,
            )  # fmt: skip
            try:
                process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            err.seek(0)
            told = [line.strip() for line in err if line.startswith("gilprobe: ")]
            if watched:
                profile = load(folder, salvage=True)
                for what in ("deadlocks", "stalls", "lock_order"):
                    told += [f"{what}: {json.dumps(event)[:2000]}" for event in getattr(profile, what)]
            return Outcome(json.loads(out.read_text()) if out.exists() else {}, told, out.exists())


def suites(interpreters: Sequence[dict[str, Any]]) -> list[Suite]:
    """One for each interpreter that has CPython's tests, or whose version another one's tests are for."""
    own = {item["label"]: _tests_of(item["executable"]) for item in interpreters}
    found = []
    for item in interpreters:
        label, lender = item["label"], ""
        if own[label] is None:
            minor = item["version"].rsplit(".", 1)[0] + "."
            lender = next((other for other in own if other.startswith(minor) and own[other]), "")
        tests = own[lender or label]
        if tests:
            found.append(Suite(item["executable"], label, item["free_threaded"], tests, lender))
    return found


def _tests_of(executable: str) -> Path | None:
    code = "import test.support, os; print(os.path.dirname(test.__file__))"
    done = subprocess.run([executable, "-c", code], capture_output=True, text=True, check=False)
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def compared(suite: Suite, quick: bool) -> dict[str, Any]:
    """A test that ends differently runs AGAIN times more on both sides: it is different where no result is shared."""
    modules = suite.modules(quick)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        jobs = {(module, on): pool.submit(suite.run, [module], on) for module in modules for on in (False, True)}
        outcomes = {key: job.result() for key, job in jobs.items()}
    results: Counter[str] = Counter()
    told: list[str] = []
    different: list[str] = []
    flaky: list[str] = []
    unended: list[str] = []
    for module in modules:
        plain, watched = outcomes[module, False], outcomes[module, True]
        told += watched.told
        if not (plain.ended and watched.ended):
            unended.append(f"{module}: plain {plain.ended}, watched {watched.ended}")
            continue
        results.update(watched.tests.values())
        for test in sorted(plain.tests.keys() | watched.tests.keys()):
            if plain.tests.get(test) == watched.tests.get(test):
                continue
            seen = {False: {plain.tests.get(test)}, True: {watched.tests.get(test)}}
            for on in (False, True) * AGAIN:
                again = suite.run([test], on)
                told += again.told
                seen[on].add(again.tests.get(test))
            shown = f"{test}: without {sorted(map(str, seen[False]))}, watched {sorted(map(str, seen[True]))}"
            (flaky if seen[False] & seen[True] else different).append(shown)
    return {
        "modules": modules, "borrowed_from": suite.borrowed_from, "results": dict(results), "told": told,
        "different": different, "flaky": flaky, "unended": unended, "left_out": list(HANGS[suite.free_threaded]),
    }  # fmt: skip
