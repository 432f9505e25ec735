"""The Firefox Profiler's processed format (firefox-devtools/profiler, docs-developer/processed-profile-format.md).

Markers for every wait (with `--events`; else one a thread and place, as long as its total), samples from the CPU
samples. Times are milliseconds since the recording began.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from gilprobe.model import Profile, SampledStack, Thread, Wait, WaitKind, own_frame
from gilprobe.render.gecko_tables import CATEGORIES, Shared, category
from gilprobe.render.tables import MOST_TEXT, longest, releaser_of, unique_tids, wait_class, wait_title
from gilprobe.render.wording import place, plain

PROCESSED_VERSION, GECKO_VERSION = 70, 36  # src/app-logic/constants.ts
INTERVAL = 1  # the phase of a marker with both times, src/app-logic/constants.ts
MARKER_FIELDS = (
    ("what", "Waited for", "string"),
    ("site", "Waiting line", "string"),
    ("releaser", "Ended by", "string"),
    ("spin", "Spinning", "duration"),
    ("wake", "Ready, no core", "duration"),
    ("count", "Waits", "integer"),
)


class Gecko:
    suffix = ".gecko.json"

    def render(self, profile: Profile) -> str:
        shared = Shared()
        markers: dict[int, Markers] = defaultdict(Markers)
        left_out = _single_waits(profile, shared, markers) if profile.timeline else _totals(profile, shared, markers)
        _spans(profile, shared, markers)
        samples: dict[int, list[SampledStack]] = defaultdict(list)
        for sampled in profile.cpu_stacks:
            samples[sampled.thread].append(sampled)
        threads = [
            _thread(
                thread, tid, _samples(thread, samples[index], shared), markers[index], _process_name(profile, thread)
            )
            for index, (thread, tid) in enumerate(zip(profile.threads, unique_tids(profile), strict=True))
        ]
        return json.dumps(
            {"meta": _meta(profile, left_out), "libs": [], "shared": shared.tables(), "threads": threads},
            separators=(",", ":"),
        )


class Markers:
    """One thread's marker table, column by column."""

    def __init__(self) -> None:
        self.data: list[dict[str, Any]] = []
        self.name: list[int] = []
        self.start: list[float] = []
        self.end: list[float] = []
        self.category: list[int] = []

    def add(self, name: int, start_ms: float, end_ms: float, category: int, data: dict[str, Any]) -> None:
        self.data.append(data)
        self.name.append(name)
        self.start.append(start_ms)
        self.end.append(end_ms)
        self.category.append(category)

    def table(self) -> dict[str, Any]:
        return {
            "data": self.data, "name": self.name, "startTime": self.start, "endTime": self.end,
            "phase": [INTERVAL] * len(self.name), "category": self.category, "length": len(self.name),
        }  # fmt: skip


def _single_waits(profile: Profile, shared: Shared, markers: dict[int, Markers]) -> int:
    """How many were left out."""
    timeline = profile.timeline
    assert timeline is not None
    rows, left_out = longest(timeline)
    for row in rows:
        index = timeline.wait[row]
        wait = profile.waits[index] if index >= 0 else None
        data = _payload(shared, wait)
        ended_by = releaser_of(profile, timeline, row)
        if ended_by:
            data["releaser"] = ended_by
        if timeline.spin_ns[row]:
            data["spin"] = timeline.spin_ns[row] / 1e6
        if timeline.wake_ns[row]:
            data["wake"] = timeline.wake_ns[row] / 1e6
        start_ms = timeline.start_ns[row] / 1e6
        end_ms = start_ms + timeline.duration_ns[row] / 1e6
        markers[timeline.thread[row]].add(_marker_name(shared, wait), start_ms, end_ms, category(wait), data)
    return left_out


def _totals(profile: Profile, shared: Shared, markers: dict[int, Markers]) -> int:
    """Without single waits: one for each thread and waiting stack, as long as its total, from the thread's start."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for index, thread in enumerate(profile.threads):
        by_name[thread.name].append(index)
    for wait in profile.waits:
        for name, total_s in wait.threads.items():
            if not by_name[name]:
                continue
            index = by_name[name][0]
            start_ms = profile.threads[index].start_s * 1e3
            data = _payload(shared, wait) | {"count": wait.count}
            markers[index].add(_marker_name(shared, wait), start_ms, start_ms + total_s * 1e3, category(wait), data)
    return 0


def _payload(shared: Shared, wait: Wait | None) -> dict[str, Any]:
    data: dict[str, Any] = {"type": "wait", "what": plain(wait_title(wait))}
    if wait is not None:
        data["site"] = place(own_frame(wait.waiter))
        stack = shared.stack(wait.waiter, category(wait))
        if stack is not None:
            data["cause"] = {"stack": stack}
    return data


def _marker_name(shared: Shared, wait: Wait | None) -> int:
    name = (
        "sleep and I/O" if wait is None else "GIL" if wait.kind == WaitKind.GIL else f"{wait_class(wait)}: {wait.kind}"
    )
    return shared.strings[name]


def _spans(profile: Profile, shared: Shared, markers: dict[int, Markers]) -> None:
    by_name: dict[tuple[int, str], int] = {}
    for index, thread in enumerate(profile.threads):
        by_name.setdefault((thread.pid, thread.name), index)
    for span in profile.spans:
        index = by_name.get((span.pid, span.thread), -1)
        if index >= 0:
            data = {"type": "span", "name": plain(span.title, MOST_TEXT)}
            markers[index].add(shared.strings["span"], span.first_s * 1e3, span.last_s * 1e3, 0, data)


def _samples(thread: Thread, sampled: list[SampledStack], shared: Shared) -> dict[str, Any]:
    """Aggregated, so without times of their own: they lie end to end from the thread's start. Weights in ms of CPU."""
    stacks: list[int | None] = []
    times: list[float] = []
    weights: list[float] = []
    now_ms = thread.start_s * 1e3
    for item in sampled:
        stacks.append(shared.stack(item.stack, category(None, on_cpu=True)))
        times.append(now_ms)
        weights.append(item.seconds * 1e3)
        now_ms += item.seconds * 1e3
    if not sampled:  # its documents ask for two at least, one at either end
        stacks, times, weights = [None, None], [now_ms, now_ms + thread.wall_s * 1e3], [0.0, 0.0]
    return {"stack": stacks, "time": times, "weight": weights, "weightType": "tracing-ms", "length": len(stacks)}


def _thread(thread: Thread, tid: int, samples: dict[str, Any], markers: Markers, process: str) -> dict[str, Any]:
    start_ms = thread.start_s * 1e3
    return {
        "name": plain(thread.name, MOST_TEXT), "isMainThread": thread.tid == thread.pid, "processType": "default",
        "processName": process, "processStartupTime": 0, "processShutdownTime": None, "registerTime": start_ms,
        "unregisterTime": start_ms + thread.wall_s * 1e3 if thread.ended else None, "pausedRanges": [],
        "showMarkersInTimeline": True, "pid": str(thread.pid), "tid": tid, "samples": samples,
        "markers": markers.table(),
    }  # fmt: skip


def _process_name(profile: Profile, thread: Thread) -> str:
    argv = next((process.argv for process in profile.processes if process.pid == thread.pid), ())
    return plain(" ".join(argv), MOST_TEXT) or "python"


def _meta(profile: Profile, left_out: int) -> dict[str, Any]:
    rate_hz = profile.meta.get("rate_hz", 0)
    return {
        "version": GECKO_VERSION, "preprocessedProfileVersion": PROCESSED_VERSION, "interval": 1e3 / (rate_hz or 1000),
        "startTime": _started_ms(profile), "processType": 0, "stackwalk": 0, "debug": False,
        "product": plain(str(profile.meta.get("recording", "")), MOST_TEXT) or "gilprobe",
        "importedFrom": f"gilprobe {profile.meta.get('gilprobe', '')}", "categories": list(CATEGORIES),
        "symbolicated": True, "symbolicationNotSupported": True, "usesOnlyOneStackType": True,
        "sourceCodeIsNotOnSearchfox": True, "keepProfileThreadOrder": True, "markerSchema": list(_schemas()),
        "profilingStartTime": 0, "profilingEndTime": profile.meta.get("wall_s", 0.0) * 1e3,
        "extra": [{"label": "gilprobe", "entries": list(_notes(profile, left_out))}],
    }  # fmt: skip


def _schemas() -> Iterator[dict[str, Any]]:
    display = ["marker-chart", "marker-table", "timeline-overview"]
    fields = [{"key": key, "label": label, "format": form} for key, label, form in MARKER_FIELDS]
    yield {"name": "wait", "display": display, "chartLabel": "{marker.data.what}", "tableLabel": "{marker.data.what}",
           "tooltipLabel": "{marker.name}", "fields": fields}  # fmt: skip
    yield {"name": "span", "display": display, "chartLabel": "{marker.data.name}", "tableLabel": "{marker.data.name}",
           "fields": [{"key": "name", "label": "Span", "format": "string"}]}  # fmt: skip


def _notes(profile: Profile, left_out: int) -> Iterator[dict[str, str]]:
    if profile.timeline is None:
        note = "each marker is the sum of a thread's waits at one place, from its start; --events records single waits"
        yield {"label": "Markers", "format": "string", "value": note}
    if left_out:
        yield {"label": "Left out", "format": "string", "value": f"the {left_out} shortest waits"}
    if profile.cpu_stacks:
        yield {"label": "Samples", "format": "string", "value": "summed up by stack: their order in time is not known"}
    for item in profile.not_observed[:50]:
        yield {"label": "Not observed", "format": "string", "value": plain(f"{item.what}: {item.why}", MOST_TEXT)}


def _started_ms(profile: Profile) -> float:
    try:
        return datetime.fromisoformat(str(profile.meta.get("started", ""))).timestamp() * 1e3
    except ValueError:
        return 0.0
