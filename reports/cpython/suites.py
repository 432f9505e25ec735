"""CPython's own tests, one outcome a test, with gilprobe and without."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gilprobe.analysis import load

Under = Literal["nothing", "profile", "watchdog"]
WORDS: dict[Under, list[str]] = {"profile": [], "watchdog": ["--watchdog=10"]}
OUTCOMES = Path(__file__).parent / "outcomes.py"
SIDE_BY_SIDE = 2
LIMIT_S, AGAIN = 900.0, 3
# Tests that at times do not end, with gilprobe or without, on these: (the version's start, free-threaded)
HANGS = {
    ("3.12", False): ("test_print_exception_gh_102056",),
    ("3.13", False): ("test_print_exception_gh_102056",),
    ("3.13", True): ("test_print_exception_gh_102056", "test_4_daemon_threads"),
}


@dataclass
class Outcome:
    """tests: id -> how it ended, the last word on each. told: what the watchdog said, in all processes. ended: in time,
    with all of its tests."""

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

    @property
    def hangs(self) -> tuple[str, ...]:
        return HANGS.get((".".join(self.label.split(".")[:2]), self.free_threaded), ())

    def modules(self, name: str) -> list[str]:
        """Those that a module of the library's tests consists of; none where the interpreter came without it."""
        parts = sorted(f"test.{name}.{part.stem}" for part in (self.tests / name).glob("test_*.py"))
        return [f"test.{name}"] if (self.tests / f"{name}.py").exists() else parts

    def run(self, names: Sequence[str], under: Under) -> Outcome:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, tempfile.TemporaryFile("w+") as err:
            folder, out, path = Path(scratch) / "r", Path(scratch) / "out.json", Path(scratch) / "path"
            path.mkdir()
            variables = dict(os.environ)
            if self.borrowed_from:
                (path / "test").symlink_to(self.tests)
                variables["PYTHONPATH"] = str(path)
            command = [self.executable]
            if under != "nothing":
                command = [sys.executable, "-m", "gilprobe", "profile", "-q", *WORDS[under], "-o", str(folder)]
                command += ["--python", self.executable]
            skip = [f"--skip={name}" for name in self.hangs]
            process = subprocess.Popen(
                [*command, str(OUTCOMES), *skip, str(out), *names],
                env=variables, stdin=subprocess.DEVNULL, stdout=err, stderr=err, cwd=scratch, start_new_session=True,
            )  # fmt: skip
            try:
                process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            err.seek(0)
            told = [line.strip() for line in err if line.startswith("gilprobe: ")]
            if under == "watchdog":
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


def compared(suite: Suite, modules: Sequence[str], under: Under) -> dict[str, Any]:
    """A test that ends differently runs AGAIN times more on both sides: it is different where no result is shared."""
    sides: tuple[Under, Under] = ("nothing", under)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        jobs = {(module, side): pool.submit(suite.run, [module], side) for module in modules for side in sides}
        outcomes = {key: job.result() for key, job in jobs.items()}
    results: Counter[str] = Counter()
    told: list[str] = []
    different: list[str] = []
    flaky: list[str] = []
    unended: list[str] = []
    for module in modules:
        plain, other = outcomes[module, "nothing"], outcomes[module, under]
        told += other.told
        if not (plain.ended and other.ended):
            unended.append(f"{module}: without {plain.ended}, with {other.ended}")
            continue
        results.update(other.tests.values())
        for test in sorted(plain.tests.keys() | other.tests.keys()):
            if plain.tests.get(test) == other.tests.get(test):
                continue
            seen = {"nothing": {plain.tests.get(test)}, under: {other.tests.get(test)}}
            for side in sides * AGAIN:
                again = suite.run([test], side)
                told += again.told
                seen[side].add(again.tests.get(test))
            shown = f"{test}: without {sorted(map(str, seen['nothing']))}, with {sorted(map(str, seen[under]))}"
            (flaky if seen["nothing"] & seen[under] else different).append(shown)
    return {
        "modules": list(modules), "borrowed_from": suite.borrowed_from, "results": dict(results), "told": told,
        "different": different, "flaky": flaky, "unended": unended, "left_out": list(suite.hangs),
    }  # fmt: skip


def in_words(found: dict[str, Any]) -> str:
    shown = f"{sum(found['results'].values())} tests of {len(found['modules'])} modules, {len(found['different'])} "
    shown += f"with another result, {len(found['told'])} reports"
    shown += f", {len(found['flaky'])} with several results on both sides" if found["flaky"] else ""
    shown += f", {len(found['unended'])} modules that did not end" if found["unended"] else ""
    shown += f"; the tests of {found['borrowed_from']}" if found["borrowed_from"] else ""
    return shown + (f" without {', '.join(found['left_out'])}" if found["left_out"] else "")
