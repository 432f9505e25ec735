"""`replay`: the schedule of a replay file, in this process or a fresh one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gilprobe.explore.bodies import _call, _final, race
from gilprobe.explore.check import Explorer, Setup
from gilprobe.explore.engine import Bodies, Outcome, Session, files_of
from gilprobe.explore.observe import Observer
from gilprobe.explore.operations import Operations
from gilprobe.explore.replayfile import KeyFollowing, decode, live, mismatches, resolve
from gilprobe.explore.result import FAILED, ReplayMismatch, Result
from gilprobe.explore.search import Fixed, cpu_s
from gilprobe.explore.story import place_of, racing_pair, tell


def replay(path: str | Path) -> Result:
    """Runs the saved schedule once. Raises ReplayMismatch where the code no longer fits it or no longer fails."""
    try:
        content = json.loads(Path(path).read_text())
        version, described = content["version"], content["target"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReplayMismatch(f"{path} is not a replay file ({error})", "give a file that explore saved") from None
    if version != 1:
        raise ReplayMismatch(f"{path} is of version {version}, this gilprobe reads 1", "explore the code again")
    target = live(str(path)) or _resolve(described)
    changed = mismatches(content)
    if changed:
        raise ReplayMismatch(f"{changed[0]} was changed since the schedule was saved", "explore the code again")
    started = cpu_s()
    labels = tuple(tuple(thread) for thread in content["operations"])
    observer = Observer()
    strategy = KeyFollowing(content["switches"], observer)
    with _session(target) as session:
        session.early = target.get("early", False)
        execute = _executor(session, target)
        outcome = execute(strategy, observer)
        if content["oracle"] == "race" and not outcome.failed:
            outcome, observer = race(execute, Fixed(tuple(outcome.run.deviations)))
    if strategy.missed() or outcome.oracle != content["oracle"]:
        first = strategy.missed()
        why = f"it never came to {first[0]}" if first else f"it ends with {outcome.oracle}, not {content['oracle']}"
        raise ReplayMismatch(f"{path} no longer fits the code: {why}", "explore the code again")
    pair = observer.updates_in_race() if outcome.oracle == "race" else racing_pair(outcome.run, observer)
    return Result(
        FAILED, outcome.oracle, None, 1, cpu_s() - started, content["seed"], labels,
        preemptions=len(outcome.run.preemptions), racing_pair=(place_of(pair[0]), place_of(pair[1])) if pair else None,
        story=tell(outcome, observer, labels, pair), replay_path=str(path), error=outcome.error,
    )  # fmt: skip


def _resolve(described: dict[str, Any]) -> dict[str, Any]:
    target: dict[str, Any] = {"kind": described["kind"]}
    for key, value in described.items():
        if key == "kind":
            continue
        if key == "bodies":
            target[key] = tuple(resolve(body) for body in value)
        elif key in ("args", "scenario"):
            target[key] = decode(value)
        elif key in ("post", "early"):
            target[key] = value
        else:
            target[key] = None if value is None else resolve(value)
    return target


def _session(target: dict[str, Any]) -> Session:
    names = ("state", "final", "target", "model", "invariant")
    things = [*target.get("bodies", ()), *(target.get(name) for name in names)]
    return Session(files_of(*things), [*things, target["args"]], restore_globals=target["kind"] == "check")


def _executor(session: Session, target: dict[str, Any]) -> Callable[[Any, Any], Outcome]:
    if target["kind"] == "run":
        bodies = target["bodies"]
        plan = Bodies(
            setup=lambda: target["state"](*target["args"]), bodies=[_call(b) for b in bodies],
            names=[f"T{n + 1}" for n in range(len(bodies))], final=_final(target["final"], target["invariant"]),
        )  # fmt: skip
        return lambda strategy, observer: session.execute(plan, strategy, observer)
    setup = Setup(target["target"], target["model"], target["args"], None, target["invariant"], 2, 3, 2, 0)
    names = {call.name: () for thread in target["scenario"] for call in thread}
    explorer = Explorer(session, setup, Operations(target["target"], names), 0.0)
    explorer.post = target["post"]
    return explorer.new_trial(target["scenario"]).execute
