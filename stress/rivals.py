"""interleave-test and frontrun beside gilprobe.explore on one corpus: python -m stress.rivals [--python PYTHON].

Each (tool, case) is a process of its own under a hard limit, for some of them hang. All tools have their default search
and the same budget. A twin that is called a bug is a false alarm; a bug of which a tool says that it holds is named so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stress.bench import ROOT
from stress.corpus import classic, harder, unseen
from stress.corpus.classic import Case

CASES = {case.name: case for case in (*classic.CASES, *harder.CASES, *unseen.CASES)}
RIVALS = {"interleave-test": "0.1.0", "frontrun": "0.7.0"}
TOOLS = ("gilprobe", *RIVALS)
WANTED = ("3.13", "3.12")  # both rivals have wheels for these; interleave-test needs 3.12
INSTALL_S = 180


def by_gilprobe(case: Case, budget_s: float) -> str:
    from gilprobe.explore import run

    result = run(*case.bodies, state=case.state, final=case.final, budget_s=budget_s)
    return "found" if result.failed else f"not found ({result})"


def by_interleave_test(case: Case, budget_s: float) -> str:
    import interleave_test as rival  # type: ignore[import-not-found, import-untyped, unused-ignore]

    def model() -> None:
        state = case.state()
        tasks = [rival.spawn(body, state) for body in case.bodies]
        for task in tasks:
            task.join()
        if case.final is not None:
            case.final(state)

    until = time.monotonic() + budget_s
    seed = 0
    while time.monotonic() < until:
        try:
            rival.explore(model, iterations=100, seed=seed, timeout=budget_s)
        except (rival.RaceFound, rival.DeadlockError):
            return "found"
        except rival.HangError:
            return "hangs"
        seed += 1
    return "not found"


def by_frontrun(case: Case, budget_s: float) -> str:
    import frontrun  # type: ignore[import-not-found, import-untyped, unused-ignore]

    def holds(state: Any) -> bool:
        if case.final is None:
            return True
        try:
            case.final(state)
        except Exception:
            return False
        return True

    raised: list[Exception] = []

    def noting(body: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def worker(state: Any) -> None:
            try:
                body(state)
            except Exception as error:
                raised.append(error)
                raise

        return worker

    workers = [noting(body) for body in case.bodies]
    try:
        result = frontrun.explore(
            setup=case.state, workers=workers, invariant=holds, total_timeout=budget_s, reproduce_on_failure=0
        )
    except Exception:
        if raised:
            return "found"  # it lets through what a worker raised in the schedule at hand
        raise
    if result.property_holds is None:
        return "not found"
    return "says HOLDS" if result.property_holds else "found"


BY: dict[str, Callable[[Case, float], str]] = {
    "gilprobe": by_gilprobe, "interleave-test": by_interleave_test, "frontrun": by_frontrun,
}  # fmt: skip


def one(tool: str, name: str, budget_s: float) -> None:
    """In the child: prints what the tool says and its CPU seconds, as JSON in the last line."""
    before = time.process_time()
    try:
        said = BY[tool](CASES[name], budget_s)
    except Exception as error:
        said = f"error: {type(error).__name__}: {error}".splitlines()[0][:120]
    print(json.dumps({"said": said, "cpu_s": round(time.process_time() - before, 3)}), flush=True)
    os._exit(0)  # a tool may have left threads that never end


def measure(python: str, tool: str, name: str, budget_s: float) -> dict[str, Any]:
    command = [python, "-m", "stress.rivals", "--one", tool, name, "--budget", str(budget_s)]
    if tool == "frontrun":
        command.insert(0, str(Path(python).with_name("frontrun")))  # it works under its own command only
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2 * budget_s + 5)
    except subprocess.TimeoutExpired:
        return {"said": "hangs"}
    try:
        row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        row = {"said": f"crashed with {done.returncode}"}
    return row


def environment(python: str, home: Path) -> tuple[str, dict[str, str]]:
    """(the interpreter with the rivals in it, why a rival is not there by its name)."""
    mine = home / "bin" / "python"
    if not mine.exists():
        subprocess.run([python, "-m", "venv", str(home)], check=True)
    lacking = {}
    for rival, version in RIVALS.items():
        install = [str(mine), "-m", "pip", "install", "-q", "--disable-pip-version-check", f"{rival}=={version}"]
        try:
            done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_S)
            if done.returncode:
                lacking[rival] = f"{rival} {version} does not install"
        except subprocess.TimeoutExpired:
            lacking[rival] = f"{rival} {version} did not install within {INSTALL_S} s"
    return str(mine), lacking


def interpreter() -> str:
    """One with the GIL that the rivals have wheels for."""
    from tools import interpreters

    for wanted in WANTED:
        for each in interpreters.interpreters():
            if str(each["version"]).startswith(wanted) and not each["free_threaded"]:
                return str(each["executable"])
    return sys.executable


def summary(rows: dict[str, dict[str, Any]], tool: str) -> str:
    bugs = [name for name, case in CASES.items() if case.oracles and name in rows]
    twins = [name for name, case in CASES.items() if not case.oracles and name in rows]
    said = {name: row[tool]["said"] for name, row in rows.items() if tool in row}
    if not said:
        return f"{tool}: not there"
    found = sum(said[name] == "found" for name in bugs)
    false = sum(said[name] == "found" for name in twins)
    holds = sum(said[name] == "says HOLDS" for name in bugs)
    hangs = sum(text == "hangs" for text in said.values())
    return f"{tool}: {found}/{len(bugs)} bugs, {false}/{len(twins)} false alarms, {holds} wrong HOLDS, {hangs} hangs"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m stress.rivals", description=__doc__)
    parser.add_argument("--one", nargs=2, metavar=("TOOL", "CASE"), help=argparse.SUPPRESS)
    parser.add_argument("--python", help="an interpreter of 3.12 or later; default: a 3.13 or 3.12 that is here")
    parser.add_argument("--home", type=Path, help="where the rivals are installed; default: the cache")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds for each tool and case")
    parser.add_argument("--only", default="", help="cases whose name contains this text")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    options = parser.parse_args(arguments)
    if options.one:
        one(*options.one, options.budget)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gilprobe" / "rivals"
    python, lacking = environment(options.python or interpreter(), options.home or cache)
    for text in lacking.values():
        print(f"NOT COMPARED: {text}", flush=True)
    version = subprocess.run([python, "-VV"], capture_output=True, text=True, check=True).stdout.split()[1]
    rows: dict[str, dict[str, Any]] = {}
    for name in CASES:
        if options.only not in name:
            continue
        rows[name] = {t: measure(python, t, name, options.budget) for t in TOOLS if t not in lacking}
        print(name, "; ".join(f"{t}: {row['said']}" for t, row in rows[name].items()), flush=True)
    for tool in TOOLS:
        print(summary(rows, tool))
    if options.out:
        found = {"rivals_python": version, "budget_s": options.budget, "versions": RIVALS, "lacking": lacking,
                 "cases": rows, "summary": [summary(rows, tool) for tool in TOOLS]}  # fmt: skip
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
