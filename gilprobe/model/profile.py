"""All of one run's figures together."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from gilprobe.model.causes import Accounting, Finding, HotObject, NotObserved, Proof, Waterfall
from gilprobe.model.moments import Collections, GpuLane, Overview, SampledStack, SpanPart, Timeline
from gilprobe.model.threads import Process, Span, Thread
from gilprobe.model.waits import GilHold, Hold, Wait

SCHEMA_VERSION = 1
NOT_IN_JSON = ("cpu_stacks", "wall_stacks", "timeline", "overview", "collections", "gpu_lanes", "by_span")


@dataclass(frozen=True, slots=True)
class Profile:
    meta: dict[str, Any]
    processes: tuple[Process, ...]
    threads: tuple[Thread, ...]
    waits: tuple[Wait, ...]
    hot_objects: tuple[HotObject, ...] = ()
    deadlocks: tuple[dict[str, Any], ...] = ()
    stalls: tuple[dict[str, Any], ...] = ()
    spans: tuple[Span, ...] = ()
    loader: dict[str, Any] = field(default_factory=dict)
    lock_order: tuple[dict[str, Any], ...] = ()
    holds: tuple[Hold, ...] = ()  # the longest first
    cuda: dict[str, Any] = field(default_factory=dict)
    accounting: Accounting = field(default_factory=lambda: Accounting(0.0, 0.0, ()))
    findings: tuple[Finding, ...] = ()
    not_observed: tuple[NotObserved, ...] = ()
    waterfall: Waterfall | None = None
    cpu_stacks: tuple[SampledStack, ...] = ()
    wall_stacks: tuple[SampledStack, ...] = ()  # py-spy's, in every state: all of a thread's time since it attached
    timeline: Timeline | None = None
    overview: Overview | None = None
    proof: Proof | None = None
    gil_holds: tuple[GilHold, ...] = ()
    collections: Collections | None = None
    gpu_lanes: tuple[GpuLane, ...] = ()
    by_span: dict[str, SpanPart] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSON report: plain dicts, lists, strings and numbers. Single samples and waits are in other formats."""
        empty: dict[str, Any] = dict.fromkeys(NOT_IN_JSON)
        report = asdict(replace(self, **empty))
        return {"schema": SCHEMA_VERSION, **{key: value for key, value in report.items() if key not in NOT_IN_JSON}}
