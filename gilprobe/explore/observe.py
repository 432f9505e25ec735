"""Watches one run closely: every access with its object and values, and which accesses no synchronisation orders.

Happens-before with vector clocks, FastTrack's epochs for the last write of a location (Flanagan and Freund 2009).
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from gilprobe.explore.looking import MISSING, Location, evaluate, is_container, place, shown
from gilprobe.explore.points import Site
from gilprobe.explore.pool import Task
from gilprobe.explore.primitives import LockSite, ModelLock
from gilprobe.explore.scheduler import Run

_MUTATORS = {"append", "appendleft", "pop", "popleft", "popitem", "add", "update", "setdefault", "clear", "extend",
             "insert", "remove", "discard", "sort", "reverse"}  # fmt: skip


@dataclass(slots=True)
class Event:
    """One step of a thread."""

    task: int
    op: int
    what: Site | LockSite
    step: int  # of the task
    line: int
    file: str
    function: str
    location: Location | None = None
    write: bool = False
    before: str = ""
    after: str = ""
    epoch: int = 0
    read_first: bool = False  # a write of what the same call had read before
    frame: int = 0
    content: int | None = None  # id of the container that was read with it

    @property
    def text(self) -> str:
        if isinstance(self.what, LockSite):
            return f"{self.what.kind}: {linecache.getline(self.file, self.line).strip()}"
        return f"{self.what.op.split('_')[0]}: {self.what.source}"


Key = tuple[int, str, str, int]  # operation, function, source, how often the thread had been there


@dataclass(slots=True)
class _Cell:
    write: Event | None = None
    reads: dict[int, Event] = field(default_factory=dict)
    clock: dict[int, int] = field(default_factory=dict)


class Observer:
    """A run's events and races.

    updated: the expressions that a first look saw updated (read, then written). Given, every other shared access counts
    as synchronisation too, as a flag or a deque that hands an object over is: what still races is an update.
    """

    def __init__(self, updated: frozenset[str] | None = None) -> None:
        self.updated = updated
        self.events: list[Event] = []
        self.races: list[tuple[Event, Event]] = []
        self._clocks: dict[int, dict[int, int]] = {}
        self._cells: dict[Location, _Cell] = {}
        self._pending: dict[int, tuple[Event, FrameType]] = {}
        self._kept: list[Any] = []
        self.keys: dict[int, Key] = {}  # per task: where it is
        self._visits: dict[tuple[int, int, str, str], int] = {}
        self._decisions: list[tuple[int, Event]] = []

    # -- called by the scheduler

    def at_point(self, run: Run, task: Task, what: Any) -> None:
        """Before the decision whether another thread goes first."""
        self.settle(task)
        if run.paused:
            return
        frame = _user_frame(what)
        if frame is None:
            return
        event = self._event(task, what, frame)
        visit = (task.index, task.op, event.function, event.text)
        self._visits[visit] = self._visits.get(visit, -1) + 1
        self.keys[task.index] = (*visit[1:], self._visits[visit])

    def passed(self, run: Run, task: Task, what: Any) -> None:
        """After it: the access comes now."""
        if run.paused or (isinstance(what, LockSite) and what.kind == "acquire"):
            return
        frame = _user_frame(what)
        if frame is None:
            return
        event = self._event(task, what, frame)
        self._decisions.append((run.index - 1, event))
        if isinstance(what, Site):
            self._look(event, what, frame)
            if event.location is not None:
                self._access(task, event)
                self._pending[task.index] = (event, frame)
        self.events.append(event)

    def _event(self, task: Task, what: Any, frame: FrameType) -> Event:
        code = frame.f_code
        event = Event(task.index, task.op, what, task.steps, frame.f_lineno or 0, code.co_filename, code.co_qualname)
        event.epoch = self._clock(task).get(task.index, 0)
        return event

    def settle(self, task: Task) -> None:
        """What the thread's last write left."""
        pending = self._pending.pop(task.index, None)
        if pending is not None and pending[0].write and isinstance(pending[0].what, Site):
            value = evaluate(pending[0].what.source, pending[1])
            pending[0].after = "" if value is MISSING else shown(value)

    def spawned(self, run: Run, parent: Task | None, child: Task) -> None:
        self._clocks[child.index] = {**(self._clock(parent) if parent is not None else {}), child.index: 1}
        if parent is not None:
            self._tick(parent)

    def finished(self, run: Run, task: Task) -> None:
        self.settle(task)

    def joined(self, run: Run, task: Task, child: Task) -> None:
        _merge(self._clock(task), self._clock(child))

    def acquired(self, run: Run, task: Task, lock: ModelLock) -> None:
        _merge(self._clock(task), lock.clock)
        frame = _user_frame(lock)
        if frame is not None and not run.paused:
            self.events.append(self._event(task, LockSite(("acquire", lock)), frame))

    def released(self, run: Run, task: Task, lock: ModelLock) -> None:
        lock.clock = dict(self._clock(task))
        self._tick(task)

    # -- inside

    def _clock(self, task: Task) -> dict[int, int]:
        return self._clocks.setdefault(task.index, {task.index: 1})

    def _tick(self, task: Task) -> None:
        clock = self._clock(task)
        clock[task.index] = clock.get(task.index, 0) + 1

    def _look(self, event: Event, site: Site, frame: FrameType) -> None:
        found = place(site, frame)
        if found is None:
            return
        event.location, base = found
        self._kept.append(base)
        event.write = site.write or (site.op in ("LOAD_ATTR", "LOAD_METHOD") and event.location[0] == "content"
                                     and site.name in _MUTATORS)  # fmt: skip
        event.frame = id(frame)
        value = evaluate(site.source, frame)
        event.before = "" if value is MISSING else shown(value)
        if value is not MISSING and not event.write and is_container(value):
            event.content = id(value)
            self._kept.append(value)

    def _access(self, task: Task, event: Event) -> None:
        assert event.location is not None
        clock = self._clock(task)
        cell = self._cells.setdefault(event.location, _Cell())
        last = cell.write
        if last is not None and last.task != task.index and last.epoch > clock.get(last.task, 0):
            self.races.append((last, event))
        if event.write:
            mine = cell.reads.get(task.index)
            event.read_first = mine is not None and mine.frame == event.frame and mine.epoch == event.epoch
            for other, read in cell.reads.items():
                if other != task.index and read.epoch > clock.get(other, 0):
                    self.races.append((read, event))
            cell.write = event
        else:
            cell.reads[task.index] = event
        if self.updated is not None and _tail(event) not in self.updated:
            if event.write:
                _merge(cell.clock, clock)
                self._tick(task)
            _merge(clock, cell.clock)

    def updates(self) -> frozenset[str]:
        return frozenset(_tail(event) for event in self.events if event.write and event.read_first)

    def meetings(self) -> tuple[frozenset[Site], int, frozenset[int]]:
        """The sites where a thread touches what another one touches too, the decisions there, and their numbers."""
        tasks: dict[Any, set[int]] = {}
        writers: dict[Any, set[int]] = {}
        for _, event in self._decisions:
            for key in _objects(event):
                tasks.setdefault(key, set()).add(event.task)
                if event.write:
                    writers.setdefault(key, set()).add(event.task)

        def met(event: Event) -> bool:
            for key in _objects(event):
                if len(tasks[key]) > 1 and key in writers:
                    return True
            if event.location is not None and event.location[0] == "item":
                inside = ("inside", event.location[1])
                return bool(tasks.get(inside, set()) - {event.task})
            return False

        sites: set[Site] = set()
        decisions: set[int] = set()
        for number, event in self._decisions:
            if isinstance(event.what, LockSite) or (event.location is None and event.what.op != "FOR_ITER"):
                decisions.add(number)
            elif met(event):
                decisions.add(number)
                sites.add(event.what)
        return frozenset(sites), len(decisions), frozenset(decisions)

    def updates_in_race(self) -> tuple[Event, Event] | None:
        """Two writes of one location that nothing orders, one of them of a value computed from an unprotected read."""
        for first, second in self.races:
            both_write = first.write and second.write and (first.read_first or second.read_first)
            if both_write and (not first.location or first.location[0] != "content"):
                return first, second
        return None


def _tail(event: Event) -> str:
    """What an access is called wherever it is written: the attribute, the global, or the item's expression."""
    return getattr(event.what, "name", "") or getattr(event.what, "source", "")


def _objects(event: Event) -> Iterator[Any]:
    if event.location is not None:
        yield event.location if event.location[0] != "content" else ("inside", event.location[1])
    if event.content is not None:
        yield ("inside", event.content)


def _merge(into: dict[int, int], other: dict[int, int]) -> None:
    for task, time in other.items():
        if time > into.get(task, 0):
            into[task] = time


def _user_frame(what: Any) -> FrameType | None:
    frame: FrameType | None = sys._getframe(2)
    code = what.code if isinstance(what, Site) else None
    while frame is not None:
        if code is not None:
            if frame.f_code is code:
                return frame
        elif not _library(frame.f_code.co_filename):
            return frame
        frame = frame.f_back
    return None


def _library(file: str) -> bool:
    return (
        ("/explore/" in file and "/gilprobe/" in file)
        or file.endswith(("/threading.py", "/queue.py"))
        or "/concurrent/" in file
    )


def conflict(one: Event, other: Event) -> bool:
    """Whether the order of the two accesses can matter."""
    if one.location is None or other.location is None or not (one.write or other.write):
        return False
    if one.location == other.location:
        return True
    for reader, writer in ((one, other), (other, one)):
        if reader.content is None or not writer.write or writer.location is None:
            continue
        if writer.location[0] in ("content", "item") and writer.location[1] == reader.content:
            return True
    kinds = {one.location[0], other.location[0]}
    return one.location[1] == other.location[1] and "content" in kinds and kinds <= {"content", "item"}
