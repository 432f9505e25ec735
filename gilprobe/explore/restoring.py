"""Puts containers and attributes back as they were, touching only what has changed."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterable
from operator import is_
from typing import Any


class Restorer:
    """What a session puts back before each run, in one pass: most of it is as it was."""

    def __init__(self) -> None:
        self._keys: list[tuple[dict[str, Any], str, Any]] = []
        self._attributes: list[tuple[Any, str, Any]] = []
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any], list[Any], list[Any]]] = []
        self._others: list[Callable[[], None]] = []

    def key(self, space: dict[str, Any], key: str, value: Any) -> None:
        self._keys.append((space, key, value))

    def attribute(self, owner: Any, name: str, value: Any) -> None:
        self._attributes.append((owner, name, value))

    def dict(self, space: dict[Any, Any]) -> None:
        self._dicts.append((space, dict(space), list(space), list(space.values())))

    def call(self, restore: Callable[..., None], *args: Any) -> None:
        self._others.append(functools.partial(restore, *args))

    def __call__(self) -> None:
        for space, key, value in self._keys:
            try:
                if space[key] is value:  # not .get(): 3.13t yields the processor 40 times in there, measured
                    continue
            except KeyError:
                pass
            space[key] = value
        for owner, key, value in self._attributes:
            if getattr(owner, key, None) is not value:
                setattr(owner, key, value)
        for space, was, keys, values in self._dicts:
            if len(space) != len(was) or not (all(map(is_, space.values(), values)) and all(map(is_, space, keys))):
                space.clear()
                space.update(was)
        for restore in self._others:
            restore()


def _same(a: Iterable[Any], b: Iterable[Any]) -> bool:
    return all(map(is_, a, b))


def restore_list(space: list[Any], was: list[Any]) -> None:
    if len(space) != len(was) or not _same(space, was):
        space[:] = was


def restore_deque(space: collections.deque[Any], was: list[Any]) -> None:
    if len(space) != len(was) or not _same(space, was):
        space.clear()
        space.extend(was)


def restore_set(space: set[Any], was: set[Any]) -> None:
    if len(space) != len(was) or not all(x in was for x in space):
        space.clear()
        space.update(was)
