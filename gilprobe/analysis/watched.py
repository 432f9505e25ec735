"""What the watchdog told, as the report has it: deadlocks, stalls, orders of locks that contradict each other."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from gilprobe.analysis.frames import expression_at, subject_of
from gilprobe.model import Frame, NotObserved, own_frame
from gilprobe.recording import Recording
from gilprobe.recording.linetable import Position
from gilprobe.recording.schema import RecordType

OFF = "the watchdog was off (--watchdog)"


class Watched(NamedTuple):
    """Each in order of time, all processes together; the keys are the JSON report's."""

    deadlocks: tuple[dict[str, Any], ...]
    stalls: tuple[dict[str, Any], ...]
    lock_order: tuple[dict[str, Any], ...]


def watched(recordings: Sequence[Recording]) -> Watched:
    told: dict[RecordType, list[tuple[int, dict[str, Any]]]] = {kind: [] for kind in RecordType}
    for recording in recordings:
        for kind, time_ns, text in recording.watched:
            try:
                told[kind].append((time_ns, _named(json.loads(text))))
            except ValueError:
                recording.damage.append("what the watchdog told cannot be read")
    lists = [
        tuple(event for _, event in sorted(told[kind], key=lambda item: item[0]))
        for kind in (RecordType.DEADLOCK, RecordType.STALL, RecordType.INVERSION)
    ]
    return Watched(*lists)


def not_watched(recordings: Sequence[Recording]) -> Iterator[NotObserved]:
    """What the watchdog would have seen had it been on, and what found no room in it."""
    states = [recording.metas.get("watchdog", b"").decode() for recording in recordings]
    if not any(states):
        yield from (NotObserved(what, OFF) for what in ("deadlocks", "stalls", "lock_order", "holds"))
    for recording, state in zip(recordings, states, strict=True):
        where = f"process {recording.header['pid']}"
        if state.startswith("no: "):
            yield NotObserved(f"holders of {where}", state.removeprefix("no: "))
        for kind, _, text in recording.watched:
            if kind != RecordType.WATCH_STATE:
                continue
            for what, count in json.loads(text).items():
                if what in DROPPED and count:
                    yield NotObserved(f"{count} {DROPPED[what]} of {where}", "more than the watchdog has room for")


DROPPED = {
    "holds_dropped": "held locks",
    "births_dropped": "places where locks were made",
    "orders_dropped": "orders of two locks",
}


def _named(event: dict[str, Any]) -> dict[str, Any]:
    """Locks by what the source calls them, where the same lock has the same name throughout and different ones have
    different names; positions go."""
    names: dict[int, str] = {}
    things = list(_things(event))
    for thing, stack in things:
        name = _name(stack)
        if name and thing.get("address") and not thing["name"].startswith(("the ", "a ", "all ", "room", "an ")):
            names.setdefault(thing["address"], name)
    counts = Counter(names.values())
    numbers: Counter[str] = Counter()
    for address, name in names.items():
        if counts[name] > 1:
            numbers[name] += 1
            names[address] = f"{name} ({numbers[name]} of {counts[name]})"
    for thing, _ in things:
        thing["name"] = names.get(thing.get("address", 0), thing["name"])
        thing.pop("address", None)
    _strip(event)
    return event


def is_numbered(name: str) -> bool:
    """One of several locks that one line of the source calls the same."""
    return re.search(r" \(\d+ of \d+\)$", name) is not None


def _things(event: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    for thread in event.get("threads", ()):
        for held in thread.get("holds", ()):
            yield held, held["taken"]
    for thread in event.get("threads", ()):
        if "waits_for" in thread:
            yield thread["waits_for"], thread["stack"]
    for way in event.get("ways", ()):
        yield way["holds"], way["holds"]["taken"]
        yield way["takes"], way["takes"]["taken"]


def _name(stack: list[dict[str, Any]]) -> str:
    frames = [Frame(frame["function"], frame["file"], frame["line"]) for frame in stack]
    own = own_frame(frames)
    if own is None:
        return ""
    position = Position(*stack[frames.index(own)]["position"])
    expression = subject_of(expression_at(own.file, position))
    return f"{expression} in {own.function}" if expression else ""


def _strip(part: Any) -> None:
    if isinstance(part, dict):
        part.pop("position", None)
        for value in part.values():
            _strip(value)
    elif isinstance(part, list):
        for value in part:
            _strip(value)
