"""A timeline for Perfetto and chrome://tracing: the Trace Event Format, as JSON (`--events` gives the single waits).

A slice for every wait, and an arrow to its end from the thread that ended it. ts and dur are microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from gilprobe.model import SLEEP_IO, Profile, Thread, Timeline, own_frame
from gilprobe.render.tables import MOST_TEXT, longest, releaser_of, unique_tids, wait_class, wait_title
from gilprobe.render.wording import place, plain

# A flow binds to the slice that is open at its time: the releaser's lasts this long, the waiter's has so long to go.
INSTANT_US = 0.001


class TraceEvents:
    suffix = ".trace.json"

    def render(self, profile: Profile) -> str:
        tids = unique_tids(profile)
        lines = [json.dumps(event) for part in (_names, _lives, _spans) for event in part(profile, tids)]
        about = {"recording": plain(str(profile.meta.get("recording", "")), MOST_TEXT)}
        about["python"] = str(profile.meta.get("python", "?"))
        about["exporter"] = f"gilprobe {profile.meta.get('gilprobe', '')}"
        if profile.timeline is None:
            about["single waits"] = "not recorded: profile with --events"
        else:
            rows, left_out = longest(profile.timeline)
            lines += _waits(profile, profile.timeline, rows, tids)
            if left_out:
                about["left out"] = f"the {left_out} shortest waits"
        # One event a line: a torn file still loads, and a diff can be read.
        head = f'{{"displayTimeUnit": "ms", "otherData": {json.dumps(about)}, "traceEvents": [\n'
        return "".join([head, ",\n".join(lines), "\n]}\n"])


def _names(profile: Profile, tids: list[int]) -> Iterator[dict[str, Any]]:
    for process in profile.processes:
        yield _meta("process_name", process.pid, 0, name=plain(" ".join(process.argv), MOST_TEXT) or "python")
        yield _meta("process_labels", process.pid, 0, labels=f"Python {process.python}")
    for order, (thread, tid) in enumerate(zip(profile.threads, tids, strict=True)):
        yield _meta("thread_name", thread.pid, tid, name=plain(thread.name, MOST_TEXT))
        yield _meta("thread_sort_index", thread.pid, tid, sort_index=order)


def _meta(event: str, pid: int, tid: int, **args: str | int) -> dict[str, Any]:
    return {"ph": "M", "name": event, "pid": pid, "tid": tid, "ts": 0, "args": args}


def _lives(profile: Profile, tids: list[int]) -> Iterator[dict[str, Any]]:
    """The totals of each thread, in a slice as long as its life."""
    for thread, tid in zip(profile.threads, tids, strict=True):
        yield {
            "ph": "X", "cat": "thread", "name": plain(thread.name, MOST_TEXT), "pid": thread.pid, "tid": tid,
            "ts": thread.start_s * 1e6, "dur": thread.wall_s * 1e6, "args": _totals(thread),
        }  # fmt: skip


def _totals(thread: Thread) -> dict[str, float]:
    totals = {
        "CPU s": thread.cpu_s, "spinning s": thread.spin_s, "ready, no core s": thread.runnable_s,
        "GIL held s": thread.gil_held_s, "sleep and I/O s": thread.sleep_io_s,
    }  # fmt: skip
    totals |= {"stolen by the host s": thread.stolen_s} if thread.stolen_s else {}
    totals |= {f"wait: {kind} s": value for kind, value in thread.wait_s.items()}
    return totals | {f"idle: {kind} s": value for kind, value in thread.idle_s.items()}


def _spans(profile: Profile, tids: list[int]) -> Iterator[dict[str, Any]]:
    by_name: dict[tuple[int, str], int] = {}
    for thread, tid in zip(profile.threads, tids, strict=True):
        by_name.setdefault((thread.pid, thread.name), tid)
    for number, span in enumerate(profile.spans):
        tid = by_name.get((span.pid, span.thread), 0)
        known = {"cat": "span", "name": plain(span.title, MOST_TEXT), "pid": span.pid, "tid": tid, "id": number}
        yield {"ph": "b", "ts": span.first_s * 1e6, **known}
        yield {"ph": "e", "ts": span.last_s * 1e6, **known}


def _waits(profile: Profile, timeline: Timeline, rows: Sequence[int], tids: list[int]) -> Iterator[str]:
    """Events as JSON, made of parts that are encoded once: there may be a million."""

    @cache
    def where(thread: int) -> str:
        return f'"pid": {profile.threads[thread].pid}, "tid": {tids[thread]}'

    @cache
    def what(index: int) -> tuple[str, str]:
        wait = profile.waits[index] if index >= 0 else None
        title = plain(wait_title(wait), MOST_TEXT)
        head = {"ph": "X", "cat": f"{wait_class(wait)},{wait.kind if wait else SLEEP_IO}", "name": title}
        return json.dumps(head)[:-1], json.dumps({"ph": "X", "cat": "release", "name": f"ends a wait: {title}"})[:-1]

    @cache
    def details(index: int, releaser: int, release: int) -> str:
        return json.dumps(_details(profile, index, releaser, release))[1:-1]

    columns = (timeline.thread, timeline.wait, timeline.releaser, timeline.release, timeline.start_ns,
               timeline.duration_ns, timeline.wake_ns, timeline.spin_ns)  # fmt: skip
    for row in rows:
        thread, index, releaser, release, start_ns, length_ns, wake_ns, spin_ns = (column[row] for column in columns)
        start_us, length_us = start_ns / 1e3, length_ns / 1e3
        head, release_head = what(index)
        args = [details(index, releaser, release)]
        args += [f'"spinning us": {spin_ns / 1e3:.3f}'] if spin_ns else []
        args += [f'"ready, no core us": {wake_ns / 1e3:.3f}'] if wake_ns else []
        inside = ", ".join(filter(None, args))
        yield f'{head}, {where(thread)}, "ts": {start_us:.3f}, "dur": {length_us:.3f}, "args": {{{inside}}}}}'
        if releaser < 0 or index < 0 or profile.waits[index].idle or length_us <= INSTANT_US:
            continue
        freed_us = max(start_us, start_us + length_us - wake_ns / 1e3 - INSTANT_US)
        flow = f'"cat": "release", "name": "release", "id": {row}'
        yield f'{release_head}, {where(releaser)}, "ts": {freed_us:.3f}, "dur": {INSTANT_US}}}'
        yield f'{{"ph": "s", {flow}, {where(releaser)}, "ts": {freed_us:.3f}}}'
        end_us = start_us + length_us - INSTANT_US
        yield f'{{"ph": "f", "bp": "e", {flow}, {where(thread)}, "ts": {end_us:.3f}}}'


def _details(profile: Profile, index: int, releaser: int, release: int) -> dict[str, str]:
    wait = profile.waits[index] if index >= 0 else None
    details = {"site": place(own_frame(wait.waiter))} if wait and wait.waiter else {}
    if wait and wait.object_type:
        details["type"] = plain(wait.object_type)
    ended_by = releaser_of(profile, wait, releaser, release)
    return details | {"ended by": ended_by} if ended_by else details
