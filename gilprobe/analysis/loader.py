"""gilprobe.loader's own part of the Profile: where its workers' and its consumer's time went, part by part, and why.

The loader marks its parts as spans (gilprobe/loader/stats.py); all figures are sums of theirs.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from gilprobe.model import Evidence, Finding, HotObject, NotObserved, Span, Wait, own_frame

PREFIX = "loader."
WORKER_PARTS = {
    "loader.index-wait": "index wait",
    "loader.dataset": "dataset",
    "loader.collate": "collate",
    "loader.output-wait": "output wait",
}
STARVED = "loader.starved"
SHARED_CODEC = "shared codec"
# Waiting for an index is waiting for the consumer: no loss of the worker's own.
WORK = ("dataset", "collate", "output wait")
_SHARED_CODEC = "loader.shared-codec "
_TOUCH = re.compile(r"loader\.touch-(new|again)-(\d+)")

Seconds = dict[str, float]


def loader_of(spans: Sequence[Span], waits: Sequence[Wait], hot_objects: Sequence[HotObject]) -> dict[str, Any]:
    """Empty where no ThreadDataLoader ran.

    `parts` and each worker's: seconds by class (cpu [useful], atomic stall, page faults, spin, ready, sleep-io, other
    and each kind of wait or idling); they add up to wall. `causes`: what the workers lost, by falling share of the
    seconds they had work (dataset, collate, output wait). Before them stands a codec that workers must not share: its
    seconds are all those in the dataset, as none of their images is sure.
    """
    mine = [span for span in spans if span.name.startswith(PREFIX)]
    if not any(span.name in WORKER_PARTS or span.name.startswith(_SHARED_CODEC) for span in mine):
        return {}
    fault_s = fault_cost_s(mine)
    workers: dict[tuple[int, int], dict[str, Any]] = {}
    parts: dict[str, Seconds] = {}
    for span in mine:
        part = WORKER_PARTS.get(span.name)
        if part is None:
            continue
        worker = workers.setdefault(
            (span.pid, span.tid),
            {"name": span.thread, "pid": span.pid, "tid": span.tid, "batches": 0, "parts": {}},
        )
        split = _split(span, fault_s)
        worker["parts"][part] = split
        _add(parts.setdefault(part, {}), split)
        if part == "output wait":
            worker["batches"] = span.count
    starved: Seconds = {}
    for span in mine:
        if span.name == STARVED:
            _add(starved, _split(span, fault_s))
    work_s = sum(parts[part]["wall"] for part in WORK if part in parts)
    names = {worker["name"] for worker in workers.values()}
    return {
        "workers": sorted(workers.values(), key=lambda worker: (worker["pid"], worker["name"], worker["tid"])),
        "parts": {part: parts[part] for part in WORKER_PARTS.values() if part in parts},
        "starved": starved,
        "batches": sum(worker["batches"] for worker in workers.values()),
        "work_s": work_s,
        "fault_cost_us": fault_s * 1e6,
        "causes": [*_shared_codecs(mine, parts, work_s), *_causes(parts, work_s, names, waits, hot_objects)],
    }


def loader_findings(loader: dict[str, Any]) -> Iterator[Finding]:
    """Before all others: what loses images, or the process. share: of the workers' work, as in the causes."""
    for cause in loader.get("causes", ()):
        if cause["kind"] == SHARED_CODEC:
            yield Finding(
                title=f"The loader's workers share {cause['name']}",
                share=cause["share"],
                evidence=cause["evidence"],
                sites=(),
                cure="Give each worker a Decoder of its own: made in worker_init_fn, or at the first sample in a "
                "threading.local.",
                kind=SHARED_CODEC,
                detail="All workers reach it; version 0.9.0 crashes or loses images when two threads use one Decoder.",
            )


def _shared_codecs(spans: Sequence[Span], parts: dict[str, Seconds], work_s: float) -> list[dict[str, Any]]:
    paths = dict.fromkeys(
        span.name.removeprefix(_SHARED_CODEC) for span in spans if span.name.startswith(_SHARED_CODEC)
    )
    at_risk_s = parts.get("dataset", {}).get("wall", 0.0)
    cause = {"part": "dataset", "kind": SHARED_CODEC, "seconds": at_risk_s, "sites": [], "evidence": Evidence.MEASURED}
    share = at_risk_s / work_s if work_s > 0 else 0.0
    return [
        {**cause, "share": share, "name": f"{path}, a Decoder of nvImageCodec: it crashes or loses images"}
        for path in paths
    ]


def no_loader(loader: dict[str, Any]) -> Iterator[NotObserved]:
    if not loader:
        yield NotObserved("loader", "no ThreadDataLoader of gilprobe.loader ran")


def fault_cost_s(spans: Sequence[Span]) -> float:
    """CPU seconds a page fault costs, as the loader measured it in the recorded process; 0 where it did not."""
    cpu_s: Seconds = defaultdict(float)
    pages = 0
    for span in spans:
        found = _TOUCH.fullmatch(span.name)
        if found:
            cpu_s[found[1]] += span.cpu_s
            if found[1] == "new":
                pages += int(found[2]) * span.count
    return max(0.0, cpu_s["new"] - cpu_s["again"]) / pages if pages else 0.0


def _split(span: Span, fault_s: float) -> Seconds:
    """The span's wall seconds by class. `other` is what neither the kernel's clock nor a hook explains."""
    busy_s = max(0.0, span.cpu_s - span.spin_s - span.atomic_stall_s)
    faults_s = min(busy_s, span.faults * fault_s)
    split = {
        "wall": span.wall_s,
        "cpu": busy_s - faults_s,
        "atomic stall": span.atomic_stall_s,
        "page faults": faults_s,
        "spin": span.spin_s,
        "ready": span.runnable_s,
        "sleep-io": span.sleep_io_s,
        **{str(kind): value for kind, value in span.wait_s.items()},
        **{str(kind): value for kind, value in span.idle_s.items()},
    }
    split["other"] = max(0.0, span.wall_s - sum(value for name, value in split.items() if name != "wall"))
    return split


def _add(total: Seconds, more: Seconds) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0.0) + value


_NO_LOSS = frozenset({"wall", "cpu", "ready", "sleep-io", "join", "condition", "queue", "spin"})


def _causes(
    parts: dict[str, Seconds],
    work_s: float,
    workers: set[str],
    waits: Sequence[Wait],
    hot_objects: Sequence[HotObject],
) -> list[dict[str, Any]]:
    """One for each part and class that took 1 % of the work; spinning counts for the wait that it precedes."""
    if work_s <= 0:
        return []
    mine = [wait for wait in waits if not wait.idle and workers & wait.threads.keys()]
    causes: list[dict[str, Any]] = []
    for part in WORK:
        for kind, value in parts.get(part, {}).items():
            if kind in _NO_LOSS:
                continue
            spin_s = parts[part]["spin"] * _spin_share(kind, mine)
            share = (value + spin_s) / work_s
            if share >= 0.01:
                causes.append({"part": part, "kind": kind, "seconds": value + spin_s, "share": share})
    causes.sort(key=lambda cause: -cause["seconds"])
    return [{**cause, **_evidence(cause["kind"], mine, workers, hot_objects)} for cause in causes]


def _spin_share(kind: str, waits: Sequence[Wait]) -> float:
    total_s = sum(wait.spin_s for wait in waits)
    return sum(wait.spin_s for wait in waits if wait.kind == kind) / total_s if total_s > 0 else 0.0


def _evidence(kind: str, waits: Sequence[Wait], workers: set[str], hot_objects: Sequence[HotObject]) -> dict[str, Any]:
    """What was waited for, where, and who ended it: of the largest row of that kind."""
    if kind == "atomic stall":
        hot = next((hot for hot in hot_objects if workers & set(hot.threads)), None)
        return {
            "name": hot.name if hot else "",
            "sites": [asdict(frame) for frame in hot.site[:2]] if hot else [],
            "evidence": Evidence.ESTIMATED,
        }
    if kind == "page faults":
        return {"name": "memory taken anew from the system", "sites": [], "evidence": Evidence.ESTIMATED}
    if kind == "other":
        return {"name": "blocked in the kernel, outside of hooked calls", "sites": [], "evidence": Evidence.ESTIMATED}
    row = max((wait for wait in waits if wait.kind == kind), key=lambda wait: wait.contended_s, default=None)
    if row is None:
        return {"name": "", "sites": [], "evidence": Evidence.MEASURED}
    frames = [own_frame(row.waiter), *(own_frame(releaser.stack) for releaser in row.releasers[:2])]
    sites = [asdict(frame) for frame in dict.fromkeys(frame for frame in frames if frame)]
    return {"name": row.name, "sites": sites, "evidence": Evidence.MEASURED}
