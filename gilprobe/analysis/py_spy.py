"""py-spy's trace beside a recording: the Python stack of each thread by wall time, split by what the thread did then.

py-spy sees stacks, the recorder sees who held the GIL and who was blocked, both with their times: joined, a sample is
`held`, `running` (neither held nor blocked: native code, or no core), `waiting` for another thread, or `idle`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gilprobe.analysis.contention import ClassifiedWait
from gilprobe.analysis.wall_states import split_by_stack
from gilprobe.model import Frame, NotObserved, SampledStack
from gilprobe.recording import Recording

TRACE, FACTS = "py-spy.trace.json", "py-spy.json"
THREAD = re.compile(r"thread \((?P<tid>\d+)\)")  # the outermost frame; hexadecimal where it is only a pthread's id
MOST_BYTES = 1 << 30
LOST_NS = 300_000_000
SERVES = "the native sampler serves"
# Unasked, it comes late: where it missed more of the threads' time than this, it is no picture of the whole run.
LEAST_SEEN = 0.85


@dataclass(frozen=True, slots=True)
class Spied:
    """stacks: empty where py-spy did not run or could not. by: what to call the sampler, empty likewise."""

    stacks: tuple[SampledStack, ...] = ()
    by: str = ""
    cpu_s: float = 0.0
    asked: bool = True
    not_observed: tuple[NotObserved, ...] = ()

    @property
    def meta(self) -> dict[str, Any]:
        return {"stacks_by": self.by, "stacks_cpu_s": self.cpu_s, "stacks_asked": self.asked} if self.by else {}


@dataclass(frozen=True, slots=True)
class Stretch:
    """One stack from the sample that first saw it to the one that saw another. Nanoseconds of CLOCK_MONOTONIC."""

    tid: int
    stack: tuple[Frame, ...]
    start_ns: int
    end_ns: int


def spied(recordings: Sequence[Recording], waits: Sequence[ClassifiedWait]) -> Spied:
    """What py-spy left in the folder of `recordings`; its samples' threads count all threads of all recordings."""
    folder = recordings[0].path.parent
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text())
    except (OSError, ValueError):
        return Spied()
    first_thread = 0
    for recording in recordings:
        if recording.header["pid"] == facts.get("pid"):
            break
        first_thread += len(recording.threads)
    else:
        return Spied(not_observed=(NotObserved("Python stacks by py-spy", "its process left no recording"),))
    asked = bool(facts.get("asked", True))
    if recording.free_threaded and not asked:
        return Spied()  # it never can; that is told where it was asked for
    problem, stretches = str(facts.get("problem", "")), []
    if not problem:
        try:
            stretches = list(_stretches(folder / TRACE, int(facts["start_ns"])))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"{TRACE} cannot be read: {error}"
    if not problem and not stretches:
        problem = "it saw no thread"
    if problem:
        return Spied(not_observed=(NotObserved("Python stacks by py-spy", f"{_plain(problem)}: {SERVES}"),))
    period_ns = 1_000_000_000 // max(1, int(facts["rate_hz"]))
    own = [wait for wait in waits if wait.recording is recording]
    missing = []
    if len(recordings) > 1:
        missing.append(NotObserved("Python stacks by py-spy of child processes", f"it watches the script; {SERVES}"))
    seen_until_ns = max(stretch.end_ns for stretch in stretches)
    if recording.end_ns - seen_until_ns > max(LOST_NS, 20 * period_ns):
        after_s = max(0, seen_until_ns - recording.header["start_ns"]) / 1e9
        what = f"Python stacks by py-spy after {after_s:.3g} s"
        missing.append(NotObserved(what, f"it could no longer read the script's memory: {SERVES}"))
    if recording.gil_holds:
        stacks = tuple(_split(recording, own, stretches, period_ns, first_thread))
    else:
        stacks = tuple(split_by_stack(recording, own, _walls(recording, stretches), first_thread))
        lived_s = sum(((t["end_ns"] or recording.end_ns) - t["start_ns"]) / 1e9 for t in recording.threads.values())
        if sum(seen.seconds for seen in stacks) < LEAST_SEEN * lived_s:
            return Spied(not_observed=tuple(missing))
    return Spied(
        stacks=stacks,
        by=f"py-spy at {facts['rate_hz']} Hz",
        asked=asked,
        cpu_s=float(facts.get("cpu_s", 0.0)),
        not_observed=tuple(missing),
    )


def _plain(problem: str) -> str:
    if ".data section" in problem:
        return "it cannot read this build (free-threaded ones it never can)"
    return problem


def _stretches(path: Path, start_ns: int) -> Iterator[Stretch]:
    """The trace holds the begin and the end of frames, in order; a stack that stays the same leaves nothing."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError("larger than 1 GiB")
    stacks: dict[int, list[Frame]] = defaultdict(list)
    since_us: dict[int, int] = {}
    for event in json.loads(path.read_text(errors="replace")):
        key, now_us, stack = event["tid"], int(event["ts"]), stacks[event["tid"]]
        if stack and now_us > since_us[key]:
            yield from _stretch(stack, start_ns + since_us[key] * 1000, start_ns + now_us * 1000)
        since_us[key] = now_us
        if event["ph"] == "B":
            place = event["args"]
            stack.append(Frame(str(event["name"]), str(place["filename"]), int(place["line"] or 0)))
        elif stack:
            stack.pop()


def _stretch(stack: list[Frame], start_ns: int, end_ns: int) -> Iterator[Stretch]:
    thread = THREAD.match(stack[0].function)
    if thread:
        yield Stretch(int(thread["tid"]), tuple(reversed(stack[1:])), start_ns, end_ns)


def _split(
    recording: Recording, waits: Sequence[ClassifiedWait], stretches: Sequence[Stretch], period_ns: int, first: int
) -> Iterator[SampledStack]:
    by_tid: dict[int, list[Stretch]] = defaultdict(list)
    for stretch in stretches:
        by_tid[stretch.tid].append(stretch)
    contended = {
        int(number)
        for number, wait in zip(recording.waits["wait_id"].tolist(), waits, strict=True)
        if wait.classified.contention
    }
    for index, (number, thread) in enumerate(sorted(recording.threads.items())):
        lived = (thread["start_ns"], thread["end_ns"] or recording.end_ns)
        parts = [_clip(stretch, *lived) for stretch in by_tid.get(thread["tid"], ())]
        instants = [_instants(*part, period_ns) for part in parts]
        states = _states(recording, number, contended, np.concatenate(instants) if instants else np.empty(0, np.int64))
        at = 0
        totals: dict[tuple[tuple[Frame, ...], str], list[float]] = defaultdict(lambda: [0, 0.0])
        for stretch, (start_ns, end_ns), times in zip(by_tid.get(thread["tid"], ()), parts, instants, strict=True):
            for state in states[at : at + len(times)]:
                entry = totals[stretch.stack, state]
                entry[0] += 1
                entry[1] += (end_ns - start_ns) / len(times) / 1e9
            at += len(times)
        for (stack, state), (count, seconds) in totals.items():
            yield SampledStack(first + index, stack, int(count), seconds, state)


def _walls(recording: Recording, stretches: Sequence[Stretch]) -> dict[int, dict[tuple[Frame, ...], float]]:
    numbers = {thread["tid"]: number for number, thread in recording.threads.items()}
    walls: dict[int, dict[tuple[Frame, ...], float]] = defaultdict(lambda: defaultdict(float))
    for stretch in stretches:
        number = numbers.get(stretch.tid)
        if number is not None:
            thread = recording.threads[number]
            start_ns, end_ns = _clip(stretch, thread["start_ns"], thread["end_ns"] or recording.end_ns)
            walls[number][stretch.stack] += max(0, end_ns - start_ns) / 1e9
    return walls


def _clip(stretch: Stretch, start_ns: int, end_ns: int) -> tuple[int, int]:
    return max(stretch.start_ns, start_ns), min(stretch.end_ns, end_ns)


def _instants(start_ns: int, end_ns: int, period_ns: int) -> NDArray[np.int64]:
    """Where the stack is looked at: when it was first seen, then every period but not within half a one of its end.

    py-spy's own later instants are not in the trace; at its last look the stack was still this one.
    """
    return np.arange(start_ns, max(start_ns + (end_ns > start_ns), end_ns - period_ns // 2), period_ns, dtype=np.int64)


def _states(recording: Recording, thread: int, contended: set[int], times: NDArray[np.int64]) -> list[str]:
    """held, waiting, idle or running at each of `times`."""
    states = np.full(len(times), "running", dtype=object)
    events = [chunk[chunk["thread"] == thread] for chunk in recording.events]
    blocked = np.concatenate(events) if events else np.empty(0, np.dtype([("start_ns", "<u8"), ("duration_ns", "<u8")]))
    if len(blocked):
        blocked = blocked[np.argsort(blocked["start_ns"], kind="stable")]
        starts = blocked["start_ns"].astype(np.int64)
        at, inside = _inside(times, starts, starts + blocked["duration_ns"].astype(np.int64))
        waiting = np.isin(blocked["wait_id"][at], np.fromiter(contended, np.uint32, len(contended)))
        states[inside] = np.where(waiting, "waiting", "idle")[inside]
    record = recording.threads[thread]
    if record["open_start_ns"] and not record["end_ns"]:
        states[times >= record["open_start_ns"]] = "idle"
    starts, ends = _holds(recording, thread)
    if len(starts):
        states[_inside(times, starts, ends)[1]] = "held"
    return [str(state) for state in states]


def _inside(
    times: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The last interval that starts at or before each time, and whether the time lies in it."""
    at = np.searchsorted(starts, times, side="right") - 1
    return np.maximum(at, 0), (at >= 0) & (times < ends[np.maximum(at, 0)])


def _holds(recording: Recording, thread: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    chunks = [chunk[chunk["thread"] == thread] for chunk in recording.gil_holds]
    starts = np.concatenate([chunk["start_ticks"] for chunk in chunks]) if chunks else np.empty(0, np.uint64)
    ends = np.concatenate([chunk["end_ticks"] for chunk in chunks]) if chunks else np.empty(0, np.uint64)
    since = recording.threads[thread]["gil_since_ticks"]
    if since:
        starts = np.append(starts, np.uint64(since))
        ends = np.append(ends, np.uint64(max(since, recording.header["end_ticks"])))
    order = np.argsort(starts, kind="stable")
    return recording.ticks_to_ns(starts[order]), recording.ticks_to_ns(ends[order])
