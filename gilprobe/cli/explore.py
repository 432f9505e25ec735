"""gilprobe explore: looks for the interleaving that breaks a class, or replays one."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import click

from gilprobe.errors import GilprobeError, UsageError

EXIT = {"NOT_FOUND": 0, "EXHAUSTED": 0, "FAILED": 1, "UNCONTROLLED": 4}


@click.command()
@click.argument("target", required=False, metavar="MODULE:CLASS")
@click.option("--replay", "replay_file", metavar="FILE", help="Run the schedule saved in FILE instead.")
@click.option("--model", metavar="MODULE:CLASS", help="What is right; default: the class itself run by one thread.")
@click.option("--threads", default=2, show_default=True, help="Threads that call it.")
@click.option("--max-ops", default=3, show_default=True, help="Operations a thread.")
@click.option("--preemptions", default=2, show_default=True, help="Preemptions of which every placing is tried.")
@click.option("--budget", "budget_s", default=10.0, show_default=True, help="Seconds.")
@click.option("--seed", default=0, show_default=True, help="Same seed, same search.")
@click.option("--sarif", type=click.Path(path_type=Path), help="Also write what was found here, for code scanners.")
@click.option("--replay-dir", default="explore-replays", show_default=True, help="Where a failing schedule is saved.")
def explore(
    target: str | None, replay_file: str | None, model: str | None, threads: int, max_ops: int, preemptions: int,
    budget_s: float, seed: int, replay_dir: str, sarif: Path | None,
) -> None:  # fmt: skip
    """Finds the interleaving that breaks a class, shrinks it and saves it.

    Ends with 0 when nothing was found or all was exhausted, 1 when it failed, 4 when a call cannot be controlled.
    """
    try:
        if sarif and sarif.exists():
            raise UsageError(f"{sarif} exists", "Remove it, or choose another name.")
        sys.path.insert(0, str(Path.cwd()))
        result = _explore(target, replay_file, model, threads, max_ops, preemptions, budget_s, seed, replay_dir)
    except GilprobeError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_status)
    except Exception as error:
        click.echo(f"gilprobe: exploring {target or replay_file} failed: {type(error).__name__}: {error}", err=True)
        click.echo(
            "if the class can be made and called by one thread, this is a bug of gilprobe: please report it", err=True
        )
        sys.exit(125)
    click.echo(f"{result}  ({result.schedules} schedules, {result.cpu_s:.2f} CPU s, seed {result.seed})")
    if result.story:
        click.echo(result.story)
    if result.replay_path:
        click.echo(f"replay it: gilprobe explore --replay {result.replay_path}")
    if sarif:
        _write_sarif(result, target or str(replay_file), sarif)
    sys.exit(EXIT[result.verdict])


def _write_sarif(result: Any, what: str, path: Path) -> None:
    """Also where nothing was found: a scanner closes then what it had open."""
    from gilprobe import __version__
    from gilprobe.model import Frame
    from gilprobe.render.base import write_whole
    from gilprobe.render.sarif import Problem, document

    def step(place: Any) -> tuple[str, tuple[Frame, ...]]:
        return place.source or str(place), (Frame(place.function, str(place.file), place.line),)

    problems = []
    if result.failed:
        pair = tuple((step(place),) for place in result.racing_pair or ())
        why = [line for line in result.story.splitlines() if line.startswith(("racing pair", "right:"))]
        problems.append(Problem("race", "; ".join([f"{what}: {result}", *why]), pair))
    unseen = [f"beyond {result.uncontrolled}: a call that cannot be controlled"] if result.uncontrolled else []
    try:
        write_whole(document(problems, version=__version__, root=str(Path.cwd()), unseen=unseen), path)
    except GilprobeError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_status)


def _explore(
    target: str | None, replay_file: str | None, model: str | None, threads: int, max_ops: int, preemptions: int,
    budget_s: float, seed: int, replay_dir: str,
) -> Any:  # fmt: skip
    from gilprobe.explore import check, replay

    if replay_file is not None:
        return replay(replay_file)
    if target is None:
        raise UsageError("nothing to explore", "name a class as MODULE:CLASS, or a saved schedule with --replay FILE")
    return check(
        load(target), None if model is None else load(model), threads=threads, max_ops=max_ops, preemptions=preemptions,
        budget_s=budget_s, seed=seed, replay_dir=replay_dir,
    )  # fmt: skip


def load(target: str) -> Any:
    """What `module:qualified.name` or `file.py:name` names."""
    where, colon, name = target.rpartition(":")
    if not colon or not where or not name:
        raise UsageError(f"{target} names no class", "write MODULE:CLASS or FILE.py:CLASS")
    module = _load_file(Path(where)) if where.endswith(".py") else _import(where)
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            raise UsageError(f"{where} has no {name}", "write MODULE:CLASS")
        value = getattr(value, part)
    return value


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"cannot import {name}: {error}", "run it where the module is importable") from None
    except Exception as error:
        raise _broken(name, error) from error


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"{path} is not a file", "write FILE.py:CLASS")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _broken(str(path), error) from error
    return module


def _broken(name: str, error: Exception) -> UsageError:
    return UsageError(f"importing {name} failed: {type(error).__name__}: {error}", "make it importable first")
