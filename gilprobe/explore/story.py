"""The story of a failure: threads side by side, what they read and wrote, which pair raced, what would forbid it."""

from __future__ import annotations

import linecache
import os
from collections.abc import Sequence

from gilprobe.explore.engine import Outcome
from gilprobe.explore.observe import Event, Observer, conflict
from gilprobe.explore.pool import Task
from gilprobe.explore.primitives import LockSite
from gilprobe.explore.result import Place
from gilprobe.explore.scheduler import Run

_WIDTH = 46
_MAX_LINES = 120


def racing_pair(run: Run, observer: Observer) -> tuple[Event, Event] | None:
    """The two accesses to blame: that of a thread that was preempted and the one that came between."""
    events = observer.events
    for left, steps, _entered in run.preemptions:
        resumed = next((n for n, e in enumerate(events) if e.task == left and e.step >= steps), len(events))
        gone = max((n for n, e in enumerate(events[:resumed]) if e.task == left), default=-1)
        away = [e for e in events[gone + 1 : resumed] if e.task not in (left, 0)]
        op = events[resumed].op if resumed < len(events) else events[gone].op if gone >= 0 else -1
        mine = [e for e in events if e.task == left and e.op == op]
        for own in sorted(mine, key=lambda e: (abs(e.step - steps), e.step)):
            for other in away:
                if conflict(own, other):
                    return (own, other) if events.index(own) < events.index(other) else (other, own)
    for pair in observer.races:
        if pair[0].location and pair[0].location[0] != "content":
            return pair
    if observer.races:
        return observer.races[0]
    return _conflict(events)


def _conflict(events: Sequence[Event]) -> tuple[Event, Event] | None:
    last: dict[object, Event] = {}
    for event in events:
        if event.location is None:
            continue
        before = last.get(event.location)
        if before is not None and before.task != event.task and (before.write or event.write):
            return before, event
        if event.write or before is None:
            last[event.location] = event
    return None


def waits(stuck: Sequence[Task]) -> list[tuple[Task, Place, str]]:
    """Where the stuck threads wait, and in what."""
    found = []
    for task in stuck:
        what, place = "a lock", None
        for file, name, line in task.wait_site:
            if "/gilprobe/explore/" in file:
                continue
            if file.endswith(("/threading.py", "/queue.py")) or "/concurrent/" in file:
                what = name
                continue
            place = Place(file, line, name, linecache.getline(file, line).strip())
            break
        if task.wait_site and any("join_thread" in n for _, n, _ in task.wait_site):
            what = "Thread.join"
        found.append((task, place or Place("?", 0), what))
    return found


def place_of(event: Event) -> Place:
    source = getattr(event.what, "source", "") or linecache.getline(event.file, event.line).strip()
    return Place(event.file, event.line, event.function, source)


def tell(
    outcome: Outcome, observer: Observer, labels: Sequence[Sequence[str]], pair: tuple[Event, Event] | None,
    results: Sequence[str] = (),
) -> str:  # fmt: skip
    """The whole story as text."""
    run = outcome.run
    lines = [_headline(outcome)]
    for number, calls in enumerate(labels):
        lines.append(f"  T{number + 1}: {'; '.join(calls)}")
    lines.append("")
    lines += _columns(run, observer, pair)
    lines.append("")
    for task, place, what in waits(outcome.stuck):
        lines.append(f"{task.name} waits for ever in {what} at {place}: {place.source}")
    lines += list(results)
    if outcome.error is not None:
        lines.append(f"{outcome.culprit} raised {type(outcome.error).__name__}: {outcome.error}")
    if pair is not None:
        first, second = pair
        names = {t.index: t.name for t in run.tasks}
        lines.append(
            f"racing pair: {names[first.task]} {_verb(first)} {place_of(first).source} at {_short(first)}, "
            f"{names[second.task]} {_verb(second)} {place_of(second).source} at {_short(second)}"
        )
    lines.append(_cure(outcome, pair))
    return "\n".join(line.rstrip() for line in lines)


def _headline(outcome: Outcome) -> str:
    count = len(outcome.run.preemptions)
    return f"FAILED ({outcome.oracle}) with {count} preemption{'' if count == 1 else 's'}"


def _short(event: Event) -> str:
    return f"{os.path.basename(event.file)}:{event.line}"


def _verb(event: Event) -> str:
    return "writes" if event.write else "reads"


def _columns(run: Run, observer: Observer, pair: tuple[Event, Event] | None) -> list[str]:
    shown = [t for t in run.tasks[1:] if any(e.task == t.index for e in observer.events)]
    column = {t.index: n for n, t in enumerate(shown)}
    lines = ["  " + "".join(t.name.ljust(_WIDTH) for t in shown)]
    last: tuple[int, int, str] | None = None
    for event in observer.events:
        if event.task not in column:
            continue
        text = _step(event)
        key = (event.task, event.line, text)
        if key == last:
            continue
        last = key
        mark = "> " if pair is not None and event in pair else "  "
        lines.append(mark + " " * (_WIDTH * column[event.task]) + text[: _WIDTH - 2].ljust(_WIDTH))
        if len(lines) > _MAX_LINES:
            lines.append("  ... (cut)")
            break
    return lines


def _step(event: Event) -> str:
    if isinstance(event.what, LockSite):
        source = linecache.getline(event.file, event.line).strip()
        return f"{event.line}: {event.what.kind} ({source})"
    source = event.what.source or linecache.getline(event.file, event.line).strip()
    if event.write:
        change = f" = {event.after}" if event.after else ""
    else:
        change = f" -> {event.before}" if event.before else ""
    return f"{event.line}: {source}{change}"


def _cure(outcome: Outcome, pair: tuple[Event, Event] | None) -> str:
    if outcome.oracle == "deadlock":
        return "right: the locks taken in one order by every thread, or none held while waiting for another"
    if outcome.oracle == "lost-wakeup":
        return "right: test and wait under one lock (while not ...: wait()), and change what is tested under it too"
    if pair is None:
        return "right: each operation without the other thread's steps in between; one lock around each forbids this"
    first, second = pair
    return (
        f"right: all of {first.function} before {second.function} or after it; a lock held over "
        f"{first.function} ({_short(first)}) and {second.function} ({_short(second)}) from the first read to the last "
        "write forbids this order"
    )
