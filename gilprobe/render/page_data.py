"""What the page draws from, packed: one JSON document and byte planes of the timeline's columns, deflated, as base64.

Nothing of base64's alphabet can end a script element, whatever the names hold. Layout of the inflated bytes: the
JSON's length (4 bytes, little-endian), the JSON, then the planes in the order of its `columns`.
"""

from __future__ import annotations

import base64
import json
import operator
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import islice, repeat
from typing import Any

from gilprobe.model import (
    Frame,
    GilHold,
    GpuLane,
    Holder,
    Overview,
    Profile,
    Releaser,
    SampledStack,
    Thread,
    Wait,
    own_frame,
)
from gilprobe.render.cuda import cuda_lines
from gilprobe.render.wording import plain

MOST_TEXT = 2000
MOST_RELEASERS = 8
DIGITS = 9
LOSSES = {
    "runnable": "ready to run, but no core free",
    "stolen": "stolen by the machine's host",
    "gil": "waiting for the GIL",
    "lock": "waiting for locks",
    "object": "waiting for objects",
    "stop-the-world": "world stopped",
    "import": "waiting for imports",
    "native": "waiting in native libraries",
    "spin": "spinning",
    "atomic-stall": "atomic stall",
    "unaccounted": "unaccounted",
}


def packed(profile: Profile, before: Profile | None = None) -> str:
    """before: the recording to compare with, for the differential flame graph."""
    texts = Texts()
    document: dict[str, Any] = {
        "meta": clean(profile.meta),
        "threads": [_thread(texts, thread) for thread in profile.threads],
        "waits": _waits(texts, profile.waits),
        "hot": [_hot(texts, hot) for hot in profile.hot_objects],
        "cpu": _cpu(texts, profile.threads, profile.cpu_stacks),
        "spied": _spied(texts, profile),
        "findings": [
            {"title": plain(f.title), "kind": f.kind, "cure": plain(f.cure, MOST_TEXT)} for f in profile.findings
        ],
        "losses": [
            {
                "label": plain(LOSSES.get(loss.name, loss.name)),
                "seconds": round(loss.seconds, DIGITS),
                "share": round(loss.share, DIGITS),
                "evidence": plain(loss.evidence),
            }
            for loss in profile.accounting.losses
        ],
        "wanted": sum(thread.wanted_s for thread in profile.threads),
        "deadlocks": clean(list(profile.deadlocks)),
        "stalls": clean(list(profile.stalls)),
        "lockOrder": clean(list(profile.lock_order)),
        "spans": clean([asdict(span) for span in profile.spans]),
        "cuda": clean(profile.cuda),
        "cuda_lines": cuda_lines(profile.cuda),
        "loader": clean(profile.loader),
        "bySpan": [
            {
                "name": plain(name),
                "threads": [_thread(texts, thread) for thread in part.threads],
                "waits": _waits(texts, part.waits),
                "cpu": _cpu(texts, profile.threads, part.cpu_stacks),
                "windows": [[own.thread, *_steps(_turns(own.start_ns, own.end_ns))] for own in part.windows],
            }
            for name, part in profile.by_span.items()
        ],
        "holds": [_hold(texts, hold) for hold in profile.gil_holds],
        "gc": _collections(profile),
        "gpu": [_gpu(lane) for lane in profile.gpu_lanes],
    }
    if before is not None:
        document["before"] = {
            "name": plain(str(before.meta.get("recording", ""))),
            "differs": _differs(profile, before),
            "threads": [texts.number(thread.name) for thread in before.threads],
            "waits": _waits(texts, before.waits),
            "cpu": _cpu(texts, before.threads, before.cpu_stacks),
        }
    columns, planes = _timeline(profile.overview)
    document["columns"] = columns
    document["wholeFromNs"] = profile.overview.whole_from_ns if profile.overview else 0
    document["events"] = len(profile.timeline) if profile.timeline else 0
    document |= texts.tables()
    head = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    compressor = zlib.compressobj(6)
    parts = [compressor.compress(len(head).to_bytes(4, "little") + head)]
    parts += [compressor.compress(plane) for plane in planes]
    parts.append(compressor.flush())
    return base64.b64encode(b"".join(parts)).decode("ascii")


def _differs(profile: Profile, before: Profile) -> list[str]:
    """What was not the same when the two were recorded: no comparison may be silent about it."""
    return [
        f"{label} {plain(str(before.meta.get(key, '?')))}, here {plain(str(profile.meta.get(key, '?')))}"
        for key, label in (("python", "Python"), ("rate_hz", "samples a second"), ("sampler", "sampler"))
        if before.meta.get(key) != profile.meta.get(key)
    ]


class Texts:
    """Texts, frames and stacks, each once, by number."""

    def __init__(self) -> None:
        self._texts: dict[str, int] = {}
        self._frames: dict[Frame, int] = {}
        self._stacks: dict[tuple[Frame, ...], int] = {}

    def number(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def frame(self, frame: Frame | None) -> int:
        return -1 if frame is None else self._frames.setdefault(frame, len(self._frames))

    def stack(self, stack: tuple[Frame, ...]) -> int:
        return self._stacks.setdefault(stack, len(self._stacks))

    def tables(self) -> dict[str, Any]:
        stacks = [[self.frame(frame) for frame in stack] for stack in self._stacks]
        frames = [[self.number(f.function), self.number(f.file), f.line] for f in self._frames]
        return {"stacks": stacks, "frames": frames, "texts": [plain(text, MOST_TEXT) for text in self._texts]}


def clean(value: Any) -> Any:
    """JSON's types, texts printable, numbers finite."""
    if isinstance(value, str):
        return plain(value, MOST_TEXT)
    if isinstance(value, dict):
        return {plain(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    if isinstance(value, float):
        return round(value, DIGITS) if abs(value) < float("inf") else None
    return value if value is None or isinstance(value, (bool, int)) else plain(str(value), MOST_TEXT)


def _thread(texts: Texts, thread: Thread) -> dict[str, Any]:
    open_wait = thread.open_wait
    return {
        "name": texts.number(thread.name),
        "tid": thread.tid,
        "pid": thread.pid,
        "start": round(thread.start_s, DIGITS),
        "wall": round(thread.wall_s, DIGITS),
        "cpu": round(thread.cpu_s, DIGITS),
        "gc": round(thread.gc_s, DIGITS),
        "gcSamples": thread.gc_samples,
        "spin": round(thread.spin_s, DIGITS),
        "stall": round(thread.atomic_stall_s, DIGITS),
        "runnable": round(thread.runnable_s, DIGITS),
        "stolen": round(thread.stolen_s, DIGITS),
        "wait": clean(thread.wait_s),
        "idle": clean(thread.idle_s),
        "sleep": round(thread.sleep_io_s, DIGITS),
        "gil": round(thread.gil_held_s, DIGITS),
        "unaccounted": round(thread.unaccounted_s, DIGITS),
        "faults": thread.minor_faults + thread.major_faults,
        "switches": thread.voluntary_switches + thread.involuntary_switches,
        "open": open_wait
        and {
            "kind": open_wait.kind,
            "name": texts.number(open_wait.name),
            "since": round(open_wait.since_s, DIGITS),
            "waited": round(open_wait.waited_s, DIGITS),
            "stack": texts.stack(open_wait.stack),
            "ended": thread.ended,
        },
    }


def _waits(texts: Texts, waits: Sequence[Wait]) -> dict[str, list[Any]]:
    return {
        "kind": [wait.kind for wait in waits],
        "idle": [int(wait.idle) for wait in waits],
        "type": [texts.number(wait.object_type) for wait in waits],
        "name": [texts.number(wait.name) for wait in waits],
        "count": [wait.count for wait in waits],
        "total": [round(wait.total_s, DIGITS) for wait in waits],
        "max": [round(wait.max_s, DIGITS) for wait in waits],
        "spin": [round(wait.spin_s, DIGITS) for wait in waits],
        "wake": [round(wait.wake_delay_s, DIGITS) for wait in waits],
        "stack": [texts.stack(wait.waiter) for wait in waits],
        "site": [texts.frame(own_frame(wait.waiter)) for wait in waits],
        "histogram": [_histogram(wait.histogram) for wait in waits],
        "threads": [_pairs(texts, wait.threads.items()) for wait in waits],
        "pairs": [
            [part for waiter, releaser, total_s in wait.pairs for part in _pair(texts, waiter, releaser, total_s)]
            for wait in waits
        ],
        "releasers": [_releasers(texts, wait.releasers) for wait in waits],
        "holders": [_holders(texts, wait.holders[:MOST_RELEASERS]) for wait in waits],
    }


def _histogram(buckets: Sequence[int]) -> list[int]:
    """The first used bucket's number, then the counts up to the last used one."""
    used = [at for at, count in enumerate(buckets) if count]
    return [used[0], *buckets[used[0] : used[-1] + 1]] if used else []


def _pairs(texts: Texts, items: Iterable[tuple[str, float]]) -> list[float]:
    return [part for name, value in items for part in (texts.number(name), round(value, DIGITS))]


def _pair(texts: Texts, waiter: str, releaser: str, total_s: float) -> tuple[int, int, float]:
    return texts.number(waiter), texts.number(releaser), round(total_s, DIGITS)


def _releasers(texts: Texts, releasers: Sequence[Releaser]) -> list[Any]:
    return [
        [
            texts.number(releaser.thread),
            texts.stack(releaser.stack),
            texts.frame(own_frame(releaser.stack)),
            releaser.count,
            round(releaser.total_s, DIGITS),
        ]
        for releaser in releasers
    ]


def _holders(texts: Texts, holders: Sequence[Holder]) -> list[Any]:
    rows = _releasers(texts, holders)
    return [[*row, round(holder.max_s, DIGITS)] for row, holder in zip(rows, holders, strict=True)]


def _hot(texts: Texts, hot: Any) -> dict[str, Any]:
    return {
        "type": texts.number(hot.object_type),
        "name": texts.number(hot.name),
        "share": hot.share,
        "interval": list(hot.interval),
        "threads": [texts.number(name) for name in hot.threads],
        "sites": [[texts.frame(frame), round(share, 4)] for frame, share in hot.sites]
        or [[texts.frame(frame), 0] for frame in hot.site],
    }


def _hold(texts: Texts, hold: GilHold) -> dict[str, Any]:
    return {
        "thread": texts.number(hold.thread),
        "pid": hold.pid,
        "start": round(hold.start_s, DIGITS),
        "held": round(hold.held_s, DIGITS),
        "waiters": hold.waiters,
        "stack": texts.stack(hold.stack),
        "site": texts.frame(own_frame(hold.stack)),
        "native": [[texts.number(part.name), texts.number(part.library), round(part.share, 4)] for part in hold.native],
        "samples": hold.samples,
        "blocked": round(hold.blocked_s, DIGITS),
        "open": hold.open,
    }


def _collections(profile: Profile) -> list[list[int]]:
    """For each thread the times of its samples in a collection: ns, each from the one before."""
    marks: list[list[int]] = [[] for _ in profile.threads]
    if profile.collections:
        for thread, time_ns in zip(profile.collections.thread, profile.collections.time_ns, strict=True):
            marks[thread].append(time_ns)
    return [_steps(sorted(times)) for times in marks]


def _steps(times: Sequence[int]) -> list[int]:
    return [time - before for before, time in zip([0, *times], times, strict=False)]


def _turns(starts: Sequence[int], ends: Sequence[int]) -> list[int]:
    return [time for pair in zip(starts, ends, strict=True) for time in pair]


def _gpu(lane: GpuLane) -> dict[str, Any]:
    """times: starts and ends by turns, each from the one before."""
    return {
        "device": lane.device,
        "pid": lane.pid,
        "context": lane.context,
        "what": lane.what,
        "count": lane.count,
        "busy": round(lane.busy_s, DIGITS),
        "closed": lane.closed_ns,
        "times": _steps(_turns(lane.start_ns, lane.end_ns)),
    }


def _cpu(texts: Texts, threads: Sequence[Thread], stacks: Sequence[SampledStack]) -> dict[str, list[Any]]:
    names = [texts.number(thread.name) for thread in threads]
    return {
        "thread": [names[stack.thread] for stack in stacks],
        "stack": [texts.stack(stack.stack) for stack in stacks],
        "seconds": [round(stack.seconds, DIGITS) for stack in stacks],
        "count": [stack.count for stack in stacks],
    }


def _spied(texts: Texts, profile: Profile) -> dict[str, list[Any]]:
    """py-spy's stacks by wall time, each with what its thread did then."""
    names = [texts.number(thread.name) for thread in profile.threads]
    return {
        "thread": [names[seen.thread] for seen in profile.wall_stacks],
        "stack": [texts.stack(seen.stack) for seen in profile.wall_stacks],
        "seconds": [round(seen.seconds, DIGITS) for seen in profile.wall_stacks],
        "state": [seen.state for seen in profile.wall_stacks],
    }


def _timeline(overview: Overview | None) -> tuple[list[dict[str, Any]], list[bytes]]:
    """One entry a column (name, rows, planes: which of a number's eight bytes follow) and the planes."""
    if overview is None:
        return [], []
    timeline = overview.timeline
    starts = timeline.start_ns
    rows = len(starts)
    columns: dict[str, Iterable[int]] = {
        # From one start to the next: small numbers, which deflate well.
        "start": map(operator.sub, starts, (first for part in ((0,), islice(starts, rows - 1)) for first in part)),
        "duration": timeline.duration_ns,
        "wake": timeline.wake_ns,
        "spin": timeline.spin_ns,
        # One more than they are, for they may be -1.
        "thread": map(operator.add, timeline.thread, repeat(1)),
        "wait": map(operator.add, timeline.wait, repeat(1)),
        "releaser": map(operator.add, timeline.releaser, repeat(1)),
        "release": map(operator.add, timeline.release, repeat(1)),
        "count": overview.count,
    }
    described, planes = [], []
    for name, values in columns.items():
        data = array("Q", map(max, values, repeat(0))).tobytes()
        parts = [(byte, data[byte::8]) for byte in range(8)]
        used = [(byte, plane) for byte, plane in parts if plane.count(0) < len(plane)]
        described.append({"name": name, "rows": len(data) // 8, "planes": [byte for byte, _ in used]})
        planes += [plane for _, plane in used]
    return described, planes
