"""How often each case shows on plain threads, without an explorer: python -m foreign.luck, from the folder above.

Buggy sides stop at the tenth failure. With --noise a tracer makes the cases' own code sleep at random bytecodes, which
is how the twins were tried hardest: a twin that fails once is a bug of the case.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import random
import sys
import threading
import time
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from . import CASES, Case, Setup

STUCK_S = 3.0
"""A body that takes longer waits for good: none sleeps longer than a few milliseconds."""

FAILURES_WANTED = 10
FOLDER = str(Path(__file__).parent)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="cases to run (default: all)")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--noise", type=float, default=0.0, help="chance (0-1) of a sleep at a bytecode")
    parser.add_argument("--side", choices=["buggy", "fixed", "both"], default="both")
    options = parser.parse_args(arguments)
    sys.setswitchinterval(1e-6)
    if options.noise:
        threading.settrace(Noise(options.noise))
    broken_twins = 0
    for case in CASES:
        if options.names and case.name not in options.names:
            continue
        if options.side != "fixed":
            report(case, "buggy", *count(case, case.buggy, options.runs))
        if options.side != "buggy":
            runs, failures = count(case, case.fixed, options.runs)
            report(case, "fixed", runs, failures)
            broken_twins += bool(failures)
    return min(broken_twins, 1)


def report(case: Case, side: str, runs: int, failures: list[str]) -> None:
    first = f"  {failures[0]}" if failures else ""
    print(f"{case.name:38} {side}  {len(failures):2} of {runs:5}{first}", flush=True)


def count(case: Case, setup: Setup, runs: int) -> tuple[int, list[str]]:
    once = run_once if case.kind == "run" else check_once
    failures: list[str] = []
    for done in range(1, runs + 1):
        failure = once(setup)
        if failure is not None:
            failures.append(failure)
            if len(failures) == FAILURES_WANTED:
                return done, failures
    return runs, failures


def run_once(setup: Setup) -> str | None:
    state = setup.keywords["state"]()
    errors = run_threads([partial(body, state) for body in setup.positional])
    if errors:
        return errors[0]
    final = setup.keywords.get("final")
    try:
        if final is not None:
            final(state)
    except AssertionError as error:
        return f"final: {error or inspect.trace()[-1].function}"
    return None


def run_threads(bodies: Sequence[Callable[[], object]]) -> list[str]:
    errors: list[str] = []
    start = threading.Barrier(len(bodies))

    def call(body: Callable[[], object]) -> None:
        start.wait()
        try:
            body()
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=call, args=(body,), daemon=True) for body in bodies]
    random.shuffle(threads)
    for thread in threads:
        thread.start()
    deadline_s = time.monotonic() + STUCK_S
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    stuck = sum(thread.is_alive() for thread in threads)
    if stuck:
        errors.append(f"stuck: {stuck} threads")
    return errors


@dataclass
class Call:
    method: str
    arguments: tuple[Any, ...]
    begun_ns: int = 0
    ended_ns: int = 0
    outcome: object = None


def check_once(setup: Setup, threads: int = 2, max_ops: int = 3) -> str | None:
    make = setup.positional[0]
    args = setup.keywords.get("args", ())
    operations = list(operations_of(make))
    programs = [[Call(*random.choice(operations)) for _ in range(random.randint(1, max_ops))] for _ in range(threads)]
    target = make(*args)
    errors = run_threads([partial(perform, target, program) for program in programs])
    if errors:
        return errors[0]
    calls = [f"{call.method}{call.arguments}={call.outcome}" for program in programs for call in program]
    invariant = setup.keywords.get("invariant")
    if invariant is not None and not invariant(target):
        return f"invariant: {calls}"
    return None if is_linearizable(lambda: make(*args), programs) else f"history: {calls}"


def operations_of(cls: type) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        if not name.startswith("_"):
            hints = typing.get_type_hints(method)
            hints.pop("return", None)
            for arguments in itertools.product(*(typing.get_args(hint) for hint in hints.values())):
                yield name, arguments


def perform(target: object, program: list[Call]) -> None:
    for call in program:
        call.begun_ns = time.perf_counter_ns()
        call.outcome = outcome_of(target, call)
        call.ended_ns = time.perf_counter_ns()


def outcome_of(target: object, call: Call) -> object:
    try:
        return getattr(target, call.method)(*call.arguments)
    except Exception as error:
        return type(error)


def is_linearizable(make: Callable[[], object], programs: list[list[Call]]) -> bool:
    """Whether some order of all calls, in which none precedes one that ended before it began, gives these outcomes."""
    owners = [owner for owner, program in enumerate(programs) for _ in program]
    for order in set(itertools.permutations(owners)):
        queues = [iter(program) for program in programs]
        calls = [next(queues[owner]) for owner in order]
        if any(later.ended_ns < earlier.begun_ns for earlier, later in itertools.combinations(calls, 2)):
            continue
        target = make()
        if all(outcome_of(target, call) == call.outcome for call in calls):
            return True
    return False


class Noise:
    """A trace function for threads: a sleep of up to 200 us at some bytecodes of the cases."""

    def __init__(self, chance: float) -> None:
        self.chance = chance

    def __call__(self, frame: FrameType, event: str, argument: object) -> Noise | None:
        path = frame.f_code.co_filename
        if not path.startswith(FOLDER) or path.endswith("luck.py"):
            return None
        frame.f_trace_opcodes = True
        if random.random() < self.chance:
            time.sleep(random.random() * 2e-4)
        return self


if __name__ == "__main__":
    sys.exit(main())
