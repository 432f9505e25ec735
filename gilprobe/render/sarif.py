"""Deadlocks, lock orders and races for code scanners: SARIF 2.1.0 (OASIS). Contention is no defect and not in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from gilprobe.model import Frame, Profile, own_frame
from gilprobe.render.tables import MOST_TEXT
from gilprobe.render.wording import plain

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
RULES = (
    ("deadlock", "error", "Threads wait for each other in a circle and never go on."),
    ("lock-order", "warning", "Locks are taken in different orders: with other timing these threads deadlock."),
    ("race", "error", "An interleaving of the threads breaks the class."),
)
WATCHED = ("deadlocks", "lock_order")
Stack = Sequence[Frame]
Steps = tuple[tuple[tuple[str, Stack], ...], ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """rule: of RULES. steps: for each thread, what it does at which stack (innermost first), in order of time."""

    rule: str
    message: str
    steps: Steps
    fingerprint: str = field(default="")


class Sarif:
    suffix = ".sarif"

    def render(self, profile: Profile) -> str:
        problems = [_deadlock(found) for found in profile.deadlocks]
        problems += [_lock_order(found) for found in profile.lock_order]
        unseen = [f"{item.what}: {item.why}" for item in profile.not_observed if item.what in WATCHED]
        cwd = str(profile.meta.get("cwd", ""))
        return document(problems, version=str(profile.meta.get("gilprobe", "")), root=cwd, unseen=unseen)


def document(problems: Iterable[Problem], *, version: str, root: str = "", unseen: Iterable[str] = ()) -> str:
    """root: the folder that the paths of its files are made relative to."""
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "gilprobe",
                **({"version": version} if version else {}),
                "rules": [
                    {"id": rule, "shortDescription": {"text": text}, "defaultConfiguration": {"level": level}}
                    for rule, level, text in RULES
                ],
            }
        },
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [
                    {"level": "note", "message": _text(f"Not observed: {what}")} for what in unseen
                ],
            }
        ],
        "columnKind": "unicodeCodePoints",
        "results": [_result(problem, root) for problem in problems],
    }
    if _absolute(root):
        run["originalUriBaseIds"] = {"SRCROOT": {"uri": _file_uri(root.rstrip("/") + "/")}}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1)


def _deadlock(found: Mapping[str, Any]) -> Problem:
    threads = list(found.get("threads", ()))
    parts = [f"{each.get('name', '?')} waits for {_name(each.get('waits_for'))}" for each in threads]
    return Problem("deadlock", f"Deadlock: {'; '.join(parts) or 'threads wait for each other'}.", steps_of(found))


def steps_of(found: Mapping[str, Any]) -> Steps:
    """Of a deadlock or a lock order of the Profile: for each thread, what it did at which stack, in order."""
    threads = list(found.get("threads", ()))
    if not threads:
        return tuple((step,) for step in _stacks(found, ""))
    return tuple(
        (
            *(
                (f"{each.get('name', '?')} takes {_name(held)}", _stack(held.get("taken")))
                for held in each.get("holds", ())
            ),
            (f"{each.get('name', '?')} waits for {_name(each.get('waits_for'))}", _stack(each.get("stack"))),
        )
        for each in threads
    )


def _lock_order(found: Mapping[str, Any]) -> Problem:
    names = list(dict.fromkeys(_names(found)))
    text = f"Locks taken in different orders: {', '.join(names) or 'see the stacks'}."
    return Problem("lock-order", text, steps_of(found))


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "name" and isinstance(item, str):
                yield item
            else:
                yield from _names(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _names(item)


def _stacks(value: Any, label: str) -> Iterator[tuple[str, Stack]]:
    """Every stack in it, under the texts it stands by."""
    if isinstance(value, Mapping):
        texts = [text for key, text in value.items() if isinstance(text, str) and key in ("name", "thread")]
        label = " ".join([label, *texts]).strip()
        for key, item in value.items():
            yield from _stacks(item, f"{label} {key}".strip())
    elif isinstance(value, list | tuple):
        stack = _stack(value)
        if stack:
            yield label, stack
        else:
            for item in value:
                yield from _stacks(item, label)


def _stack(value: Any) -> Stack:
    """Of frames as the Profile or the JSON report has them; empty where it is something else."""
    frames = []
    for item in value if isinstance(value, list | tuple) else ():
        if isinstance(item, Frame):
            frames.append(item)
        elif isinstance(item, Mapping) and {"function", "file", "line"} <= set(item):
            frames.append(Frame(str(item["function"]), str(item["file"]), int(item["line"])))
    return frames


def _name(value: Any) -> str:
    return str(value.get("name") or value.get("kind") or "?") if isinstance(value, Mapping) else str(value or "?")


def _result(problem: Problem, root: str) -> dict[str, Any]:
    flows = [
        {"locations": [{"location": _location(stack, root, text)} for text, stack in thread]}
        for thread in problem.steps
        if thread
    ]
    last = [thread[-1][1] for thread in problem.steps if thread]
    result: dict[str, Any] = {
        "ruleId": problem.rule,
        "ruleIndex": [rule for rule, _, _ in RULES].index(problem.rule),
        "level": next(level for rule, level, _ in RULES if rule == problem.rule),
        "message": _text(problem.message),
        "locations": [_location(stack, root) for stack in last[:1]],
        "relatedLocations": [
            {"id": number} | _location(stack, root, text)
            for number, (text, stack) in enumerate(step for thread in problem.steps for step in thread)
        ],
        "partialFingerprints": {"gilprobe/v1": problem.fingerprint or _fingerprint(problem)},
    }
    if flows:
        result["codeFlows"] = [{"threadFlows": flows}]
    return result


def _fingerprint(problem: Problem) -> str:
    """The same where lines moved: functions and file names, in no order."""
    places = {
        f"{frame.function} {PurePosixPath(frame.file).name}"
        for thread in problem.steps
        for _, stack in thread
        if (frame := own_frame(stack))
    }
    return hashlib.sha256("\n".join([problem.rule, *sorted(places)]).encode("utf-8", "replace")).hexdigest()[:32]


def _location(stack: Stack, root: str, text: str = "") -> dict[str, Any]:
    frame = own_frame(stack)
    location: dict[str, Any] = {"message": _text(text)} if text else {}
    if frame is None:
        return location
    location["logicalLocations"] = [{"fullyQualifiedName": plain(frame.function, MOST_TEXT), "kind": "function"}]
    if _absolute(frame.file) or not frame.file.startswith("<"):
        location["physicalLocation"] = {"artifactLocation": _artifact(frame.file, root)}
        if frame.line > 0:
            location["physicalLocation"]["region"] = {"startLine": frame.line}
    return location


def _artifact(file: str, root: str) -> dict[str, str]:
    if not _absolute(file):
        return {"uri": _path(file), "uriBaseId": "SRCROOT"}
    if _absolute(root) and PurePosixPath(file).is_relative_to(root):
        return {"uri": _path(str(PurePosixPath(file).relative_to(root))), "uriBaseId": "SRCROOT"}
    return {"uri": _file_uri(file)}


def _absolute(path: str) -> bool:
    return path.startswith("/")


def _file_uri(path: str) -> str:
    return f"file://{_path(path)}"


def _path(path: str) -> str:
    return quote(plain(path, MOST_TEXT))


def _text(text: str) -> dict[str, str]:
    return {"text": plain(text, MOST_TEXT)}
