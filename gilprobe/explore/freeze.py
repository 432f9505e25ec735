"""Results and states as values that can be compared later: copied, and objects without a value known by identity."""

from __future__ import annotations

import dataclasses
import enum
from collections import OrderedDict, defaultdict, deque
from typing import Any

_PLAIN = (int, float, str, bytes, bool, type(None), complex)
_MAX_DEPTH = 6


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """An object compared by identity: `number` counts its first appearances, `kind` is its type's name."""

    kind: str
    number: int


class Freezer:
    """Freezes the values of one run; the same object gets the same token."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Any, Token]] = {}

    def __call__(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        if kind in _PLAIN or isinstance(value, (enum.Enum, type)):
            return value if value == value else "nan"
        if depth < _MAX_DEPTH:
            if kind in (list, deque):
                return (kind.__name__, *(self(v, depth + 1) for v in list(value)))
            if isinstance(value, tuple):
                return ("tuple", *(self(v, depth + 1) for v in value))
            if kind in (set, frozenset):
                return (kind.__name__, frozenset(self(v, depth + 1) for v in list(value)))
            if kind in (dict, OrderedDict, defaultdict):
                items = [(self(k, depth + 1), self(v, depth + 1)) for k, v in list(value.items())]
                return (kind.__name__, *items) if kind is OrderedDict else (kind.__name__, *sorted(items, key=repr))
            if dataclasses.is_dataclass(value) and "__eq__" in vars(kind):
                fields = [self(getattr(value, f.name), depth + 1) for f in dataclasses.fields(value) if f.compare]
                return (kind.__qualname__, *fields)
        if isinstance(value, BaseException):
            return ("raised", kind.__name__, *(self(a, depth + 1) for a in value.args))
        known = self._kept.get(id(value))
        if known is None:
            known = self._kept[id(value)] = (value, Token(kind.__qualname__, len(self._kept)))
        return known[1]


def canonical(value: Any, numbers: dict[Token, int] | None = None) -> Any:
    """The same with tokens numbered in the order in which they appear in `value`."""
    numbers = {} if numbers is None else numbers
    if isinstance(value, Token):
        return Token(value.kind, numbers.setdefault(value, len(numbers)))
    if isinstance(value, tuple):
        return tuple(canonical(v, numbers) for v in value)
    return value


def shape(value: Any) -> Any:
    """The same with every token of a type alike."""
    if isinstance(value, Token):
        return Token(value.kind, 0)
    if isinstance(value, tuple):
        return tuple(shape(v) for v in value)
    return value
