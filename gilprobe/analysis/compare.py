"""What changed between two sets of recordings of one program, with how sure that is, and whether they are alike."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import floor, sqrt
from pathlib import PurePath
from typing import Any

import numpy as np

from gilprobe.model import Frame, Profile, Wait, WaitKind, own_frame

# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom (any table of the distribution).
T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class Unit(StrEnum):
    SECONDS = "s"
    CORES = "cores"
    TIMES = "x"
    SHARE = "share"


@dataclass(frozen=True, slots=True)
class Quantity:
    """group: whole, class, wait or object. kind: of the wait, or the class."""

    group: str
    name: str
    unit: Unit
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """Means of both sides. low, high: 95 % bounds of after - before, None with one recording on a side.

    where: the line that most of a wait's seconds come from.
    """

    quantity: Quantity
    before: float
    after: float
    low: float | None
    high: float | None
    where: Frame | None = None

    @property
    def change(self) -> float:
        return self.after - self.before

    @property
    def told_apart(self) -> bool:
        """Chance alone makes such a difference in fewer than one of twenty comparisons."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def compare(before: Sequence[Profile], after: Sequence[Profile]) -> tuple[Change, ...]:
    """Shares are of all threads' time less what they idled or slept. By group, then by falling difference."""
    olds, news = [_quantities(profile) for profile in before], [_quantities(profile) for profile in after]
    where = _places([*before, *after])
    found = list(dict.fromkeys(quantity for side in (*olds, *news) for quantity in side))
    changes = []
    for quantity in found:
        old, new = [side.get(quantity, 0.0) for side in olds], [side.get(quantity, 0.0) for side in news]
        low, high = _interval(old, new)
        changes.append(
            Change(
                quantity, float(np.mean(old)), float(np.mean(new)), low, high, where.get((quantity.kind, quantity.name))
            )
        )
    order = {"whole": 0, "class": 1, "wait": 2, "object": 3}
    return tuple(
        sorted(
            changes,
            key=lambda change: (
                order[change.quantity.group],
                -abs(change.change) if order[change.quantity.group] else found.index(change.quantity),
            ),
        )
    )


def _interval(before: Sequence[float], after: Sequence[float]) -> tuple[float | None, float | None]:
    """Welch's: the sides may vary differently. Degrees of freedom are rounded down, which only widens it."""
    if min(len(before), len(after)) < 2:
        return None, None
    errors = [float(np.var(side, ddof=1)) / len(side) for side in (before, after)]
    middle, total = float(np.mean(after) - np.mean(before)), sum(errors)
    if total == 0:
        return middle, middle
    degrees = total**2 / sum(error**2 / (len(side) - 1) for error, side in zip(errors, (before, after), strict=True))
    half = T_95[min(max(floor(degrees), 1), len(T_95)) - 1] * sqrt(total)
    return middle - half, middle + half


def _quantities(profile: Profile) -> dict[Quantity, float]:
    found = {
        Quantity("whole", "wall time", Unit.SECONDS): float(profile.meta.get("wall_s", 0.0)),
        Quantity("whole", "CPU time", Unit.SECONDS): float(profile.meta.get("cpu_s", 0.0)),
        Quantity("whole", "useful cores", Unit.CORES): profile.accounting.actual,
        Quantity("whole", "waited, all threads", Unit.SECONDS): sum(
            wait.contended_s for wait in profile.waits if not wait.idle
        ),
    }
    if profile.waterfall:
        found[Quantity("whole", "speed-up over one", Unit.TIMES)] = profile.waterfall.actual
    for loss in profile.accounting.losses:
        found[Quantity("class", loss.name, Unit.SHARE, loss.name)] = loss.share
    wanted_s = sum(thread.wanted_s for thread in profile.threads)
    for (kind, name), waits in _named(profile):
        share = sum(wait.contended_s for wait in waits) / wanted_s if wanted_s > 0 else 0.0
        found[Quantity("wait", name, Unit.SHARE, kind)] = share
    for hot in profile.hot_objects:
        quantity = Quantity("object", _steady(f"{hot.object_type} {hot.name}"), Unit.SHARE)
        found[quantity] = found.get(quantity, 0.0) + hot.share
    return found


def _named(profile: Profile) -> Iterator[tuple[tuple[str, str], list[Wait]]]:
    named: dict[tuple[str, str], list[Wait]] = defaultdict(list)
    for wait in profile.waits:
        if not wait.idle and wait.kind != WaitKind.GIL:
            named[wait.kind, _steady(wait.name)].append(wait)
    yield from named.items()


def _steady(name: str) -> str:
    """Without the address, which changes from run to run."""
    return ADDRESS.sub("", name)


def _places(profiles: Sequence[Profile]) -> dict[tuple[str, str], Frame]:
    places: dict[tuple[str, str], Frame] = {}
    for profile in profiles:
        for key, waits in _named(profile):
            frame = own_frame(max(waits, key=lambda wait: wait.total_s).waiter)
            if frame:
                places[key] = frame
    return places


def made_differently(profiles: Sequence[Profile]) -> list[str]:
    """Why these recordings cannot be compared: what they were made of or with, where that differs."""
    differences = []
    for label, told in _conditions().items():
        values = list(dict.fromkeys(told(profile) for profile in profiles))
        if len(values) > 1:
            differences.append(f"{label} {' and '.join(values)}")
    return differences


def _conditions() -> Mapping[str, Callable[[Profile], str]]:
    def meta(key: str) -> Callable[[Profile], str]:
        return lambda profile: str(profile.meta.get(key, "?"))

    return {
        "Python": meta("python"),
        "the GIL": lambda profile: _of_first(profile, lambda process: "on" if process.gil_enabled else "off"),
        "the script": lambda profile: _of_first(profile, lambda process: _command(process.argv)),
        "sampler": meta("sampler"),
        "sampling rate": lambda profile: f"{profile.meta.get('rate_hz', 0)} Hz",
        "events": lambda profile: "kept" if profile.meta.get("events") else "not kept",
        "watchdog": lambda profile: "on" if profile.meta.get("watchdog") else "off",
        "stacks by": lambda profile: (
            str(profile.meta.get("stacks_by")) if profile.meta.get("stacks_asked") else "the recorder"
        ),
        "options": lambda profile: str(profile.meta.get("options", "none")),
        "the end": lambda profile: _of_first(profile, lambda process: process.end),
        "gilprobe": meta("gilprobe"),
    }


def _of_first(profile: Profile, told: Callable[[Any], str]) -> str:
    return told(profile.processes[0]) if profile.processes else "?"


TAKE_A_VALUE = ("-X", "-W", "--check-hash-based-pycs")


def _command(argv: Sequence[str]) -> str:
    """As it was run, less the interpreter's and the script's folder: the same script may lie in two checkouts."""
    words = list(argv[1:])
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at][:2] not in ("-m", "-c"):
        at += 2 if words[at] in TAKE_A_VALUE else 1
    if at < len(words) and not words[at].startswith("-"):
        words[at] = PurePath(words[at]).name
    return " ".join(words) or "none"
