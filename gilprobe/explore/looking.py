"""What a source expression means in a frame: its place and its value, found without running code of the user's."""

from __future__ import annotations

import ast
import threading
from types import FrameType, ModuleType
from typing import Any

from gilprobe.explore.points import Site

Location = tuple[Any, ...]
MISSING = object()
_PLAIN = (int, float, str, bytes, bool, type(None))


def place(site: Site, frame: FrameType) -> tuple[Location, Any] | None:
    if site.op.endswith("GLOBAL"):
        return ("global", id(frame.f_globals), site.name), None
    if site.op.endswith(("DEREF",)):
        return ("closure", site.name), None
    node = _parse(site.source)
    if node is None:
        return None
    if isinstance(node, ast.Attribute):
        base = _value(node.value, frame)
        if base is MISSING or isinstance(base, threading.local):
            return None
        if is_container(base):
            return ("content", id(base)), base
        return ("attribute", id(base), node.attr), base
    if isinstance(node, ast.Subscript):
        base = _value(node.value, frame)
        if base is MISSING:
            return None
        key = _value(node.slice, frame)
        if type(base) is list:
            return ("item", id(base), key if isinstance(key, int) else "?"), base
        return ("item", id(base), key if type(key) in _PLAIN else id(key)), base
    if isinstance(node, ast.Call) and len(node.args) == 1 and isinstance(node.func, ast.Name):
        base = _value(node.args[0], frame)
        return (("content", id(base)), base) if is_container(base) else None
    if isinstance(node, ast.Compare) and site.op == "CONTAINS_OP" and len(node.comparators) == 1:
        base = _value(node.comparators[0], frame)
        key = _value(node.left, frame)
        if base is MISSING:
            return None
        return ("item", id(base), key if type(key) in _PLAIN else id(key)), base
    return None


def is_container(value: Any) -> bool:
    return type(value) in (list, dict, set) or type(value).__name__ in (
        "deque",
        "OrderedDict",
        "defaultdict",
        "Counter",
    )


def evaluate(source: str, frame: FrameType) -> Any:
    node = _parse(source)
    return MISSING if node is None else _value(node, frame)


_parsed: dict[str, ast.expr | None] = {}


def _parse(source: str) -> ast.expr | None:
    if source not in _parsed:
        try:
            _parsed[source] = ast.parse(source, mode="eval").body if source else None
        except SyntaxError:
            _parsed[source] = None
    return _parsed[source]


def _value(node: ast.AST, frame: FrameType) -> Any:
    """The value of an expression without running any code of the user's."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        for space in (frame.f_locals, frame.f_globals):
            if node.id in space:
                return space[node.id]
        return MISSING
    if isinstance(node, ast.Attribute):
        base = _value(node.value, frame)
        if base is MISSING:
            return MISSING
        return _raw_attribute(base, node.attr)
    if isinstance(node, ast.Subscript):
        base, key = _value(node.value, frame), _value(node.slice, frame)
        if base is MISSING or key is MISSING or type(key) not in _PLAIN:
            return MISSING
        if type(base) in (list, tuple, dict):
            try:
                return base[key]
            except (LookupError, TypeError):
                return MISSING
    return MISSING


def _raw_attribute(base: Any, name: str) -> Any:
    if isinstance(base, ModuleType):
        return vars(base).get(name, MISSING)
    try:
        space = object.__getattribute__(base, "__dict__")
    except AttributeError:
        space = {}
    if name in space:
        return space[name]
    for kind in type(base).__mro__ if not isinstance(base, type) else base.__mro__:
        if name in vars(kind):
            found = vars(kind)[name]
            if type(found).__name__ == "member_descriptor" and not isinstance(base, type):
                try:
                    return found.__get__(base)
                except AttributeError:
                    return MISSING
            return found if type(found) in (*_PLAIN, list, dict, set, tuple) else MISSING
    return MISSING


def shown(value: Any, depth: int = 0) -> str:
    """repr() of plain values only: no code of the user's runs."""
    kind = type(value)
    if kind in _PLAIN:
        text = repr(value)
    elif kind in (list, tuple, set, frozenset) and depth < 2 and len(value) <= 6:
        inner = ", ".join(shown(v, depth + 1) for v in value)
        text = f"[{inner}]" if kind is list else f"({inner})" if kind is tuple else f"{{{inner}}}"
    elif kind is dict and depth < 2 and len(value) <= 6:
        text = "{" + ", ".join(f"{shown(k, depth + 1)}: {shown(v, depth + 1)}" for k, v in value.items()) + "}"
    else:
        text = f"<{kind.__name__}>"
    return text if len(text) <= 40 else text[:37] + "..."
