"""Mutants of our own loader, each judged by the explorer: python -m stress.mutants [--budget S] [--only TEXT].

Every lock, notify and recheck of the copied modules is removed, one at a time, wherever the syntax tree shows one.
A mutant is killed by the first scenario that fails. The unchanged loader must pass them all.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from gilprobe.explore.bodies import explore_schedules
from gilprobe.explore.engine import Bodies, Outcome, Session, files_of
from gilprobe.explore.real import raw_monotonic
from gilprobe.explore.scheduler import Strategy
from gilprobe.explore.search import Diverged, Found
from stress.bench import ROOT

LOADER = ROOT / "gilprobe" / "loader"
COPIED = ("fault_cost", "writes", "worker", "iterator", "dataloader")
# What one thread of the loader tells another, or asks about another's doing.
SHARED = frozenset({
    "stopped", "epoch", "alive", "is_alive", "_active", "_shutdown", "_early", "_received", "ended",
    "told_to_end", "_first", "first", "_found", "_measured",
})  # fmt: skip
NOTIFIES = frozenset({"put", "notify", "notify_all", "set", "release", "join"})
_JUMPS = (ast.Continue, ast.Break, ast.Return, ast.Raise)
BAR = 0.9
# What changes nothing that anybody could see, by (module, what is removed). They are named, not counted.
EQUIVALENT = {
    ("fault_cost", "if _measured or not spans.connected()"): "a short cut: the check under the lock decides",
    ("fault_cost", "_measured of _measured or not spans.connected()"): "a short cut: the check under the lock decides",
    ("iterator", "if hasattr(self, '_workers') and (not self._shutdown)"): "a short cut: shutdown() asks again",
    ("iterator", "not self._shutdown of hasattr(self, '_workers') and (not self._shutdown)"):
        "a short cut: shutdown() asks again",
    ("writes", "target in self._found of worker_id is None or target in self._found"):
        "a short cut: the check under the lock decides",
    ("iterator", "if worker.alive"): "nobody reads a dead worker's queue",
    ("iterator", "iterator._job.stopped = True"): "shutdown() tells each one; this only tells them sooner",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """The source of a module without one of its locks, notifies or rechecks."""

    module: str
    line: int
    kind: str  # lock | notify | recheck
    removed: str
    source: str

    def __str__(self) -> str:
        return f"{self.module}.py:{self.line} {self.kind}: {self.removed}"


def mutants() -> list[Mutant]:
    found = []
    for module in COPIED:
        text = (LOADER / f"{module}.py").read_text()
        whole = ast.parse(text)
        for place, node in enumerate(ast.walk(whole)):
            for kind, removed, change in _removals(node, whole):
                tree = ast.parse(text)
                target = next(n for at, n in enumerate(ast.walk(tree)) if at == place)
                _Replace(target, change).visit(tree)
                source = ast.unparse(ast.fix_missing_locations(tree))
                found.append(Mutant(module, node.lineno, kind, removed, source))  # type: ignore[attr-defined]
    return found


Change = Callable[[Any], Any]


def _removals(node: ast.AST, tree: ast.AST) -> Iterator[tuple[str, str, Change]]:
    """(kind, what is removed, how the same node of another tree is changed)."""
    if isinstance(node, ast.With) and any(ast.unparse(i.context_expr).endswith("lock") for i in node.items):
        yield "lock", ast.unparse(node.items[0].context_expr), lambda n: n.body
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        call = node.value.func
        if isinstance(call, ast.Attribute) and call.attr in NOTIFIES:
            yield "notify", ast.unparse(node), lambda n: ast.Pass()
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and type(node.value.value) is bool:
        if any(_asks(t) for t in node.targets) and not _begins(node, tree):
            yield "notify", ast.unparse(node), lambda n: ast.Pass()
    elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute) and node.target.attr == "epoch":
        yield "notify", ast.unparse(node), lambda n: ast.Pass()
    elif isinstance(node, ast.If) and _asks(node.test) and not _dispatches(node.test):
        yield "recheck", f"if {ast.unparse(node.test)}", _without_check
    elif isinstance(node, ast.BoolOp):
        for index, value in enumerate(node.values):
            if _asks(value) and not _dispatches(value):
                yield "recheck", f"{ast.unparse(value)} of {ast.unparse(node)}", _without_operand(index)


def _begins(node: ast.Assign, tree: ast.AST) -> bool:
    """The first value of a name or an attribute: without it nothing runs, which would prove nothing."""
    for scope in ast.walk(tree):
        if isinstance(scope, ast.FunctionDef) and node in ast.walk(scope):
            same = [n for n in ast.walk(scope) if isinstance(n, ast.Assign) and ast.dump(n) == ast.dump(node)]
            first = min(same, key=lambda n: n.lineno) is node and isinstance(node.targets[0], ast.Name)
            return scope.name == "__init__" or (first and node.value.value is False)  # type: ignore[attr-defined]
    return True


def _asks(node: ast.AST) -> bool:
    names = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
    names |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return bool(names & SHARED)


def _dispatches(node: ast.AST) -> bool:
    """By the kind of a message: no question about another thread."""
    return any(isinstance(n, ast.Name) and n.id == "isinstance" for n in ast.walk(node))


def _without_check(node: ast.If) -> Any:
    if isinstance(node.body[-1], ast.Break) or not isinstance(node.body[-1], _JUMPS):
        return node.body  # what the check guarded happens always
    return node.orelse or ast.Pass()


def _without_operand(index: int) -> Change:
    def change(node: ast.BoolOp) -> Any:
        left = node.values[:index] + node.values[index + 1 :]
        return left[0] if len(left) == 1 else ast.BoolOp(node.op, left)

    return change


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, change: Change) -> None:
        self.target, self.change = target, change

    def visit(self, node: ast.AST) -> Any:
        return self.change(node) if node is self.target else self.generic_visit(node)


def copied(folder: Path, package: str, mutant: Mutant | None) -> dict[str, ModuleType]:
    """The loader's modules by name, imported from a copy in which one of them may be a mutant."""
    home = folder / package
    home.mkdir()
    (home / "__init__.py").write_text("")
    for name in COPIED:
        text = (LOADER / f"{name}.py").read_text()
        if mutant is not None and mutant.module == name:
            text = mutant.source
        for other in COPIED:
            text = text.replace(f"gilprobe.loader.{other} ", f"{package}.{other} ")
        text = text.replace("from gilprobe.loader import fault_cost, ", f"from {package} import fault_cost\n" + _REST)
        (home / f"{name}.py").write_text(text)
    importlib.invalidate_caches()
    modules = {name: importlib.import_module(f"{package}.{name}") for name in COPIED}
    return {**modules, "worker_info": importlib.import_module("gilprobe.loader.worker_info")}


_REST = "from gilprobe.loader import "


def judge(
    modules: dict[str, ModuleType], budget_s: float, seed: int, schedules: int, wanted: str = ""
) -> tuple[str | None, str, int]:
    """(name of the first scenario that fails, how, schedules run); at most `schedules` and `budget_s` a scenario."""
    from stress.loader_scenarios import forget, scenarios

    done = 0
    files = [str(module.__file__) for name, module in modules.items() if name in COPIED]
    for scenario in scenarios(modules):
        if wanted not in scenario.name:
            continue
        plan = Bodies(
            scenario.state,
            [(lambda state, _task, body=body: body(state)) for body in scenario.bodies],  # type: ignore[misc]
            [f"T{n}" for n in range(len(scenario.bodies))],
            scenario.final,
        )
        mine = files_of(*scenario.bodies)
        with Session([*files, *mine], [scenario.state, *modules.values()], restore_globals=False) as session:

            def execute(strategy: Strategy, observer: Any = None) -> Outcome:
                return session.execute(plan, strategy, observer)  # noqa: B023 - used within this turn only

            try:
                found: Found = explore_schedules(
                    execute, preemptions=2, deadline=raw_monotonic() + budget_s, seed=seed, max_schedules=schedules,
                    beyond=False,
                )  # fmt: skip
            except Diverged:
                return scenario.name, "not deterministic", done
            finally:
                forget(modules)
        done += found.schedules
        outcome = found.outcome
        if outcome is not None:
            said = "" if outcome.error is None else f": {type(outcome.error).__name__}: {outcome.error}"
            return scenario.name, f"{outcome.oracle or 'uncontrolled'}{said}".splitlines()[0], done
        if found.inconclusive == found.schedules:
            return scenario.name, "no schedule ends", done
    return None, "", done


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m stress.mutants", description=__doc__)
    parser.add_argument("--budget", type=float, default=2.0, help="seconds a scenario, at most")
    parser.add_argument("--schedules", type=int, default=40, help="schedules a scenario, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="mutants whose line contains this text")
    parser.add_argument("--scenario", default="", help="scenarios whose name contains this text")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument(
        "--before", type=Path, help="such a file of the same sources, whose mutants are not judged again"
    )
    parser.add_argument("--seconds", type=float, default=1e9, help="no mutant is begun after so long")
    options = parser.parse_args(arguments)
    try:
        import torch  # noqa: F401
    except ImportError:
        print("SKIPPED mutants of the loader: torch is not installed", flush=True)
        return 0
    warnings.simplefilter("ignore")
    logging.disable()
    sys.unraisablehook = lambda _: None  # finalizers of schedules that were given up
    rows: list[dict[str, Any]] = json.loads(options.before.read_text())["mutants"] if options.before else []
    known = {row["mutant"] for row in rows}
    end, whole = time.monotonic() + options.seconds, True
    equivalent: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, folder)
        unchanged = judge(
            copied(Path(folder), "unchanged_loader", None),
            options.budget,
            options.seed,
            options.schedules,
            options.scenario,
        )
        if unchanged[0] is not None:
            print(f"LOUD: the unchanged loader fails {unchanged[0]!r}: {unchanged[1]}")
            return 1
        print(f"quiet: the unchanged loader, {unchanged[2]} schedules", flush=True)
        for number, mutant in enumerate(m for m in mutants() if options.only in str(m)):
            reason = EQUIVALENT.get((mutant.module, mutant.removed))
            if reason is not None:
                equivalent[str(mutant)] = reason
                print(f"equivalent {mutant}: {reason}", flush=True)
                continue
            if str(mutant) in known:
                continue
            start = time.monotonic()
            if start > end:
                whole = False
                continue
            modules = copied(Path(folder), f"mutant_{number}", mutant)
            scenario, how, schedules = judge(modules, options.budget, options.seed, options.schedules, options.scenario)
            rows.append({
                "mutant": str(mutant), "killed": scenario is not None, "scenario": scenario, "how": how,
                "schedules": schedules, "wall_s": round(time.monotonic() - start, 2),
            })  # fmt: skip
            print(f"{'killed' if scenario else 'SURVIVED'} {mutant}" + (f" <- {scenario}: {how}" if scenario else ""),
                  flush=True)  # fmt: skip
        sys.path.remove(folder)
    killed = sum(row["killed"] for row in rows)
    share = killed / len(rows) if rows else 0.0
    print(f"{killed}/{len(rows)} killed ({share:.0%}, bar {BAR:.0%})")
    if options.out:
        results = {
            "seed": options.seed, "killed": killed, "total": len(rows), "unchanged_schedules": unchanged[2],
            "mutants": rows, "equivalent": equivalent, "whole": whole,
        }  # fmt: skip
        options.out.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    return 0 if share >= BAR else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
