"""Replay files: a failing schedule keyed by what the code says, so that it survives edits elsewhere and other bytecode.

A switch is named by thread, operation, function, source expression and how often the thread had been there; functions
by qualified name and a digest of their syntax trees. Line numbers and offsets are not in it.
"""

from __future__ import annotations

import ast
import base64
import functools
import gc
import hashlib
import importlib
import importlib.util
import json
import linecache
import os
import pickle
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType
from typing import Any

from gilprobe.explore.engine import Outcome
from gilprobe.explore.observe import Key, Observer
from gilprobe.explore.pool import Task
from gilprobe.explore.result import ReplayMismatch
from gilprobe.explore.scheduler import Run
from gilprobe.explore.schedules import Execute
from gilprobe.explore.search import Deviations, Fixed

VERSION = 1


class KeyRecording:
    """Follows deviations and notes each with the key of the place it happened at."""

    eager = False

    def __init__(self, deviations: Deviations, observer: Observer) -> None:
        self.fixed = Fixed(deviations)
        self.places = Places(observer)
        self.switches: list[dict[str, Any]] = []

    def begin(self, run: Run) -> None:
        run.stop_at = 0

    def pick(self, run: Run, current: Task | None, choices: int, default: Task) -> Task:
        place = self.places.at(run, current)
        target = self.fixed.pick(run, current, choices, default)
        run.stop_at = 0
        if target is not default:
            self.switches.append({"at": place, "to": target.index})
        return target


class KeyFollowing:
    """Follows the switches of a replay file."""

    eager = False

    def __init__(self, switches: list[dict[str, Any]], observer: Observer) -> None:
        self.wanted = {json.dumps(s["at"]): s["to"] for s in switches}
        self.places = Places(observer)
        self.taken: set[str] = set()

    def begin(self, run: Run) -> None:
        run.stop_at = 0

    def pick(self, run: Run, current: Task | None, choices: int, default: Task) -> Task:
        place = json.dumps(self.places.at(run, current))
        run.stop_at = 0
        target = self.wanted.get(place)
        if target is None or target >= len(run.tasks) or not choices >> target & 1:
            return default
        self.taken.add(place)
        chosen: Task = run.tasks[target]
        return chosen

    def missed(self) -> list[str]:
        return [place for place in self.wanted if place not in self.taken]


class Places:
    """Names the decision under way."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.last: Any = None
        self.nth = 0

    def at(self, run: Run, current: Task | None) -> dict[str, Any]:
        leaver = current or run.leaver
        key: Key | None = self.observer.keys.get(leaver.index) if leaver is not None else None
        place = {
            "thread": -1 if leaver is None else leaver.index,
            "operation": key[0] if key else -1,
            "function": key[1] if key else "",
            "source": key[2] if key else "",
            "visit": key[3] if key else 0,
            "free": current is None,
        }
        self.nth = self.nth + 1 if place == self.last else 0
        self.last = dict(place)
        return {**place, "nth": self.nth}


def save(
    folder: str, execute: Execute, least: Deviations, shown: Outcome, observer: Observer,
    labels: tuple[tuple[str, ...], ...], seed: int, target: dict[str, Any],
) -> str:  # fmt: skip
    """Writes the file and returns its path."""
    watching = Observer()
    recording = KeyRecording(least, watching)
    execute(recording, watching)
    functions = {(e.file, e.function) for e in observer.events}
    content = {
        "version": VERSION,
        "oracle": shown.oracle,
        "seed": seed,
        "python": platform.python_version(),
        "operations": labels,
        "target": describe(target),
        "functions": [
            {"file": f, "function": name, "digest": d}
            for f, name in sorted(functions)
            if (d := digest(f, name)) is not None
        ],
        "switches": recording.switches,
    }
    text = json.dumps(content, indent=1, default=str) + "\n"
    os.makedirs(folder, exist_ok=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = Path(folder) / f"{shown.oracle}-{name}.replay.json"
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)
    _live[str(path)] = target
    return str(path)


_live: dict[str, dict[str, Any]] = {}  # targets of this process, which also finds what has no name of its own


def live(path: str) -> dict[str, Any] | None:
    return _live.get(path)


def describe(target: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": target["kind"]}
    for key, value in target.items():
        if key == "kind":
            continue
        if key == "bodies":
            found[key] = [reference(body) for body in value]
        elif key in ("args", "scenario"):
            found[key] = _encode(value)
        elif key == "operations":
            continue
        elif key in ("post", "early"):
            found[key] = value
        else:
            found[key] = None if value is None else reference(value)
    return found


def reference(value: Any) -> dict[str, Any]:
    if isinstance(value, functools.partial):
        return {"partial": reference(value.func), "given": _encode((value.args, value.keywords))}
    inner = getattr(value, "__func__", value)
    module = sys.modules.get(getattr(inner, "__module__", "") or "")
    file = getattr(module, "__file__", None)
    code = getattr(inner, "__code__", None)
    name = getattr(inner, "__qualname__", repr(value))
    found = {"module": getattr(inner, "__module__", None), "file": file, "name": name}
    if code is not None and "<" in name:
        found["digest"] = _nameless_digest(inner)
    return found


def resolve(described: dict[str, Any]) -> Any:
    """The object a reference names, imported anew if need be."""
    if "partial" in described:
        args, keywords = decode(described["given"])
        return functools.partial(resolve(described["partial"]), *args, **keywords)
    module = _import(described)
    name: str = described["name"]
    if "<" not in name:
        value: Any = module
        for part in name.split("."):
            value = getattr(value, part, None)
        if value is None:
            raise ReplayMismatch(f"{described['module']} has no {name} any more", "explore it again")
        return value
    for candidate in gc.get_objects():
        if (
            isinstance(candidate, FunctionType)
            and candidate.__qualname__ == name
            and candidate.__module__ == module.__name__
            and _nameless_digest(candidate) == described.get("digest")
        ):
            return candidate
    raise ReplayMismatch(
        f"{name} of {described['module']} cannot be found in a fresh process, or was changed",
        "define bodies and state as functions at the top of a module",
    )


def _import(described: dict[str, Any]) -> Any:
    name, file = described["module"], described["file"]
    if name in sys.modules and name != "__main__":
        return sys.modules[name]
    if name == "__main__":
        main = sys.modules["__main__"]
        if file is None or os.path.realpath(getattr(main, "__file__", "") or "") == os.path.realpath(file):
            return main
        name = Path(file).stem
        if name in sys.modules:
            return sys.modules[name]
    try:
        module = importlib.import_module(name)
        if file is None or os.path.realpath(getattr(module, "__file__", "") or "") == os.path.realpath(file):
            return module
    except ImportError:
        pass
    if file is None or not os.path.exists(file):
        raise ReplayMismatch(f"module {name} cannot be imported here", "run it where the code under test is importable")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, os.path.dirname(file))
    spec.loader.exec_module(module)
    return module


def _encode(value: Any) -> dict[str, str]:
    return {"repr": repr(value), "pickle": base64.b64encode(pickle.dumps(value)).decode()}


def decode(value: dict[str, str]) -> Any:
    return pickle.loads(base64.b64decode(value["pickle"]))


def digest(file: str, function: str) -> str | None:
    """Of the syntax tree of a function, by qualified name; None where the source has no such function.

    Unparsed: ast.dump writes the same tree differently from one version of Python to the next.
    """
    node = _find(file, function)
    return None if node is None else hashlib.sha256(ast.unparse(node).encode()).hexdigest()[:16]


def _find(file: str, function: str) -> ast.AST | None:
    linecache.checkcache(file)
    try:
        node: ast.AST = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return None
    for part in function.replace(".<locals>", "").split("."):
        children: Iterable[ast.AST] = ast.walk(node) if isinstance(node, ast.Module) else ast.iter_child_nodes(node)
        if not isinstance(node, ast.Module):
            children = [c for c in ast.walk(node) if c is not node]
        found = [
            c
            for c in children
            if isinstance(c, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and c.name == part
        ]
        if not found:
            return None
        node = found[0]
    return node


def _nameless_digest(function: Any) -> str:
    """Of a function without a name of its own: its names and constants, not its bytecode, and what it closes over."""
    code = function.__code__
    held = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    held += function.__defaults__ or ()
    shown = [value if _plain(value) else getattr(value, "__qualname__", type(value).__qualname__) for value in held]
    constants = [c for c in code.co_consts if not hasattr(c, "co_code")]
    parts = (code.co_name, code.co_names, code.co_varnames, constants, shown)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _plain(value: Any) -> bool:
    return type(value) in (int, float, str, bytes, bool, type(None)) or (
        type(value) is tuple and all(_plain(each) for each in value)
    )


def _filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def mismatches(content: dict[str, Any]) -> list[str]:
    """Functions that no longer are what they were."""
    found = []
    for function in content["functions"]:
        file = function["file"]
        if not os.path.exists(file):
            continue
        if digest(file, function["function"]) != function["digest"]:
            found.append(f"{function['function']} in {file}")
    return found
