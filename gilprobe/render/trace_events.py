"""A timeline for Perfetto and chrome://tracing: the Trace Event Format, as JSON (`--events` gives the single waits).

A slice for every wait, and an arrow to its end from the thread that ended it. ts and dur are microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from gilprobe.model import Profile, Thread, Timeline, Wait, own_frame
from gilprobe.render.tables import MOST_TEXT, longest, releaser_of, unique_tids, wait_class, wait_title
from gilprobe.render.wording import place, plain

# A flow binds to the slice that is open at its time: the releaser's lasts this long, the waiter's has so long to go.
INSTANT_US = 0.001


class TraceEvents:
    suffix = ".trace.json"

    def render(self, profile: Profile) -> str:
        tids = unique_tids(profile)
        events = [*_names(profile, tids), *_lives(profile, tids), *_spans(profile, tids)]
        about = {"recording": plain(str(profile.meta.get("recording", "")), MOST_TEXT)}
        about["python"] = str(profile.meta.get("python", "?"))
        about["exporter"] = f"gilprobe {profile.meta.get('gilprobe', '')}"
        if profile.timeline is None:
            about["single waits"] = "not recorded: profile with --events"
        else:
            rows, left_out = longest(profile.timeline)
            for row in rows:
                events += _wait(profile, profile.timeline, row, tids)
            if left_out:
                about["left out"] = f"the {left_out} shortest waits"
        # One event a line: a torn file still loads, and a diff can be read.
        lines = ",\n".join(json.dumps(event) for event in events)
        return f'{{"displayTimeUnit": "ms", "otherData": {json.dumps(about)}, "traceEvents": [\n{lines}\n]}}\n'


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


def _wait(profile: Profile, timeline: Timeline, row: int, tids: list[int]) -> Iterator[dict[str, Any]]:
    index = timeline.wait[row]
    wait = profile.waits[index] if index >= 0 else None
    thread, releaser = timeline.thread[row], timeline.releaser[row]
    start_us, length_us = timeline.start_ns[row] / 1e3, timeline.duration_ns[row] / 1e3
    pid, tid = profile.threads[thread].pid, tids[thread]
    yield {
        "ph": "X", "cat": f"{wait_class(wait)},{wait.kind if wait else 'sleep-io'}",
        "name": plain(wait_title(wait), MOST_TEXT), "pid": pid, "tid": tid, "ts": start_us, "dur": length_us,
        "args": _details(profile, timeline, row, wait),
    }  # fmt: skip
    if releaser < 0 or wait is None or wait.idle or length_us <= INSTANT_US:
        return
    freed_us = max(start_us, start_us + length_us - timeline.wake_ns[row] / 1e3 - INSTANT_US)
    other = {"pid": profile.threads[releaser].pid, "tid": tids[releaser]}
    flow = {"cat": "release", "name": "release", "id": row}
    yield {"ph": "X", "cat": "release", "name": f"ends a wait: {plain(wait_title(wait), MOST_TEXT)}", **other,
           "ts": freed_us, "dur": INSTANT_US, "args": {"waiter": plain(profile.threads[thread].name)}}  # fmt: skip
    yield {"ph": "s", **flow, **other, "ts": freed_us}
    yield {"ph": "f", "bp": "e", **flow, "pid": pid, "tid": tid, "ts": start_us + length_us - INSTANT_US}


def _details(profile: Profile, timeline: Timeline, row: int, wait: Wait | None) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if wait is not None:
        details["site"] = place(own_frame(wait.waiter))
        if wait.object_type:
            details["type"] = plain(wait.object_type)
    ended_by = releaser_of(profile, timeline, row)
    if ended_by:
        details["ended by"] = ended_by
    if timeline.spin_ns[row]:
        details["spinning us"] = timeline.spin_ns[row] / 1e3
    if timeline.wake_ns[row]:
        details["ready, no core us"] = timeline.wake_ns[row] / 1e3
    return details
