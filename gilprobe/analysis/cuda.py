"""CUDA contexts of all processes on one clock: who had the GPU, how often it changed hands, what lay between."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gilprobe.analysis.cuda_nvml import add_nvml
from gilprobe.analysis.cuda_rungs import Rung, failure, rung_of
from gilprobe.analysis.cuda_torch import add_kineto
from gilprobe.analysis.gpu_ownership import ownership
from gilprobe.analysis.gpu_timeline import (
    Times,
    clock_bounds,
    intervals_of,
    residency_of,
    union_of,
)
from gilprobe.analysis.gpu_window import Window, samples_within, spans_within, window_of, work_within
from gilprobe.model import Evidence, Finding, NotObserved
from gilprobe.recording import Recording
from gilprobe.recording.cuda_schema import CudaContextEvent, CudaStep, GpuWorkKind
from gilprobe.recording.ladder import KINETO_SUFFIX, read_ladder, read_nvml
from gilprobe.recording.schema import EndKind

LEAST_SHARE = 0.01
MOST_ROWS = 200
UNDER_MPS = 2  # CUPTI_ACTIVITY_COMPUTE_API_CUDA_MPS


@dataclass(slots=True)
class Context:
    """One context of one process. Its number is its process's own: only (pid, number) names it."""

    pid: int
    number: int
    owner: int
    device: int = 0
    api_kind: int = 0
    created_ns: int = 0
    destroyed_ns: int = 0
    kernels: int = 0
    copies: int = 0
    copied_bytes: int = 0
    busy_ns: int = 0
    resident_ns: int | None = None
    threads: set[int] = field(default_factory=set)
    streams: int = 0
    set_current: int = 0
    pushed: int = 0

    @property
    def gpu_owner(self) -> int:
        """What the GPU switches between: all clients of MPS on a device are one to it."""
        return -1 - self.device if self.api_kind == UNDER_MPS else self.owner

    def to_dict(self) -> dict[str, Any]:
        return {
            "pid": self.pid,
            "context": self.number,
            "device": self.device,
            "mps": {0: None, UNDER_MPS: True}.get(self.api_kind, False),
            "kernels": self.kernels,
            "copies": self.copies,
            "copied_bytes": self.copied_bytes,
            "busy_s": self.busy_ns / 1e9,
            "resident_s": None if self.resident_ns is None else self.resident_ns / 1e9,
            "threads": len(self.threads),
            "streams": self.streams,
            "set_current": self.set_current,
            "pushed": self.pushed,
            "life_s": (self.destroyed_ns - self.created_ns) / 1e9 if self.created_ns and self.destroyed_ns else None,
        }


@dataclass(frozen=True, slots=True)
class Gpu:
    """All recorded GPU time of all processes. busy: starts and ends without overlaps, of all devices together."""

    report: dict[str, Any]
    busy: tuple[Times, Times]


def cuda_of(recordings: Sequence[Recording]) -> Gpu:
    """report: the JSON report's `cuda`; empty where --cuda was not given.

    cuda.json may say whether the known-answer test has shown on this GPU that switch records bound residency
    (`calibrated`, see reports/gpu_study). Where it does not, nothing of them counts as measured. It may also name the
    part of the run to which the figures are confined (gpu_window.py).
    """
    folder = recordings[0].path.parent
    ladder, nvml = read_ladder(folder), read_nvml(folder)
    kineto = any(folder.glob("*" + KINETO_SUFFIX))
    states = [state for recording in recordings for state in recording.cuda.states]
    none: Times = np.empty(0, np.int64)
    if not (ladder or states):
        return Gpu({}, (none, none))
    rung = rung_of(recordings, ladder, kineto=kineto, nvml=bool(nvml))
    report: dict[str, Any] = {
        "rung": rung.letter,
        "source": rung.source,
        "reason": rung.reason,
        "replay": rung.replay,
        "cannot_see": list(rung.cannot_see),
        "evidence": Evidence.UNAVAILABLE,
    }
    busy, window = (none, none), window_of(ladder)
    if window:
        report["window_s"] = (window[1] - window[0]) / 1e9
    if rung.letter in "AB":
        calibrated = ladder.get("calibrated")
        busy = _from_cupti(report, recordings, rung, calibrated if isinstance(calibrated, bool) else None, window)
    elif rung.letter == "C":
        busy = add_kineto(report, folder)
    elif rung.letter == "D":
        add_nvml(report, samples_within(nvml, window))
    report["failures"] = [
        {"pid": recording.header["pid"], "reason": failure(state)}
        for recording in recordings
        for state in recording.cuda.states
        if state["step"] != CudaStep.ON
    ]
    return Gpu(report, busy)


def _from_cupti(
    report: dict[str, Any],
    recordings: Sequence[Recording],
    rung: Rung,
    calibrated: bool | None,
    window: Window | None,
) -> tuple[Times, Times]:
    contexts: dict[tuple[int, int], Context] = {}
    work: list[tuple[Any, Any, int]] = []
    resident: list[tuple[Any, Any, int]] = []
    bounds: list[tuple[int | None, int | None]] = []
    unpaired = 0
    # Before the work: CUPTI's own list of contexts tells which of them MPS serves.
    for recording in recordings:
        _lives(contexts, recording)
    for recording in recordings:
        if not recording.cuda.states:
            continue
        all_work, marks = recording.cuda.all_work(), recording.cuda.all_marks()
        work += _work(contexts, recording, work_within(all_work, window))
        if rung.letter == "A":
            spans, alone = residency_of(marks)
            unpaired += alone
            for number, (begin, until) in spans.items():
                start, end = spans_within(begin, until, window)
                context = _context(contexts, recording, number)
                context.resident_ns = int((end - start).sum())
                resident.append((start, end, context.gpu_owner))
        if len(all_work) or len(marks):
            bounds.append(clock_bounds(all_work, marks))
    devices = {context.gpu_owner: context.device for context in contexts.values()}
    on_gpu = intervals_of(work)
    switches = intervals_of(resident)
    # A process without switch records would have none of the GPU.
    use_switches = len(switches) > 0 and bool(np.isin(on_gpu.owner, switches.owner).all())
    report["evidence"] = Evidence.ESTIMATED if rung.replay else Evidence.MEASURED
    report["contexts"] = [context.to_dict() for context in contexts.values()][:MOST_ROWS]
    report["contexts_left_out"] = max(0, len(contexts) - MOST_ROWS)
    report["under_mps"] = any(context.api_kind == UNDER_MPS for context in contexts.values())
    report["processes"] = _processes(contexts.values())
    report |= ownership(switches if use_switches else on_gpu, on_gpu, devices)
    report["switch_evidence"] = (
        Evidence.MEASURED if use_switches and calibrated and not rung.replay else Evidence.ESTIMATED
    )
    report["calibrated"] = calibrated if use_switches else None
    report["unpaired_switches"] = unpaired
    report["switches_incomplete"] = len(switches) > 0 and not use_switches
    report["clock_error_s"] = _clock_error(bounds)
    wall_s = _wall_s(recordings)
    total = sum(context.set_current + context.pushed for context in contexts.values())
    report["set_current_per_s"] = total / wall_s if wall_s else 0.0
    states = [state for recording in recordings for state in recording.cuda.states]
    report["lost"] = {name: sum(state[name] for state in states) for name in ("dropped", "unread", "lost")}
    report["cut_short"] = [
        r.header["pid"] for r in recordings if r.cuda.states and r.header["end_kind"] == EndKind.NONE
    ]
    report["figures"] = _figures(report, shared=len(devices) > len(set(devices.values())))
    return union_of(on_gpu.start, on_gpu.end)


def _figures(report: dict[str, Any], *, shared: bool) -> dict[str, Evidence]:
    """How each figure was got. shared: several owners on one device, when a kernel's time may hold that of others."""
    seen, switches = report["evidence"], report["switch_evidence"]
    resident = any(context["resident_s"] is not None for context in report["contexts"])
    return {
        **dict.fromkeys(("contexts", "kernels", "copies", "copied_bytes", "streams", "threads", "life_s"), seen),
        **dict.fromkeys(("set_current", "pushed", "set_current_per_s", "gpu_s", "busy_s"), seen),
        "contexts_busy_s": Evidence.ESTIMATED if shared else seen,
        **dict.fromkeys(("changes", "changes_per_s", "gaps"), switches),
        "resident_s": switches if resident else Evidence.UNAVAILABLE,
        "clock_error_s": Evidence.UNAVAILABLE if report["clock_error_s"] is None else seen,
    }


def _context(contexts: dict[tuple[int, int], Context], recording: Recording, number: int) -> Context:
    key = recording.header["pid"], number
    if key not in contexts:
        contexts[key] = Context(*key, owner=len(contexts) + 1)
    return contexts[key]


def _lives(contexts: dict[tuple[int, int], Context], recording: Recording) -> None:
    for event in recording.cuda.contexts:
        context = _context(contexts, recording, event["context"])
        if event["event"] == CudaContextEvent.CREATED:
            context.created_ns, context.device = event["time_ns"], event["device"]
        elif event["event"] == CudaContextEvent.DESTROYED:
            context.destroyed_ns = event["time_ns"]
        else:
            context.api_kind, context.device = event["api_kind"], event["device"]
    for use in recording.cuda.uses:
        if use["context"]:
            context = _context(contexts, recording, use["context"])
            context.threads.add(use["thread"])
            context.set_current += use["set_current"]
            context.pushed += use["pushed"]


def _work(contexts: dict[tuple[int, int], Context], recording: Recording, work: Any) -> list[tuple[Any, Any, int]]:
    parts = []
    for number in np.unique(work["context"]):
        own = work[work["context"] == number]
        context = _context(contexts, recording, int(number))
        kernels = own["kind"] == GpuWorkKind.KERNEL
        context.kernels, context.copies = int(kernels.sum()), int((~kernels).sum())
        context.copied_bytes = int(own["bytes"].sum())
        context.streams = len(np.unique(own["stream"]))
        context.device = int(own["device"][0])
        by_start = np.argsort(own["start_ns"], kind="stable")
        start, end = union_of(own["start_ns"][by_start].astype(np.int64), own["end_ns"][by_start].astype(np.int64))
        context.busy_ns = int(np.maximum(end - start, 0).sum())
        parts.append((own["start_ns"], own["end_ns"], context.gpu_owner))
    return parts


def _processes(contexts: Any) -> list[dict[str, Any]]:
    groups: dict[int, list[Context]] = defaultdict(list)
    for context in contexts:
        groups[context.pid].append(context)
    return [
        {
            "pid": pid,
            "contexts": len(group),
            "busy_s": sum(context.busy_ns for context in group) / 1e9,
            "resident_s": sum(c.resident_ns or 0 for c in group) / 1e9 if any(c.resident_ns for c in group) else None,
            "threads": len(set().union(*(context.threads for context in group))),
        }
        for pid, group in groups.items()
    ]


def _clock_error(bounds: Sequence[tuple[int | None, int | None]]) -> float | None:
    """By how much times of two processes may be apart, at most; None where some process gave no bound."""
    lows = [low for low, _ in bounds if low is not None]
    highs = [high for _, high in bounds if high is not None]
    if not bounds or len(lows) < len(bounds) or len(highs) < len(bounds):
        return None
    return max(max(highs) - min(lows), 0) / 1e9


def _wall_s(recordings: Sequence[Recording]) -> float:
    return (max(r.end_ns for r in recordings) - min(r.header["start_ns"] for r in recordings)) / 1e9


def cuda_findings(report: dict[str, Any]) -> tuple[Finding, ...]:
    """From a replay no claim is made about a GPU."""
    processes = report.get("processes", ())
    if report.get("replay") or len(processes) < 2 or not report["changes"]:
        return ()
    share = report["gaps"]["share"]
    if share < LEAST_SHARE:
        return ()
    contexts = sum(process["contexts"] for process in processes)
    return (
        Finding(
            title=(
                f"{len(processes)} processes hold {contexts} CUDA contexts; the GPU changed hands "
                f"{report['changes_per_s']:.0f} times a second; gaps cost {share:.1%} of GPU time"
            ),
            share=share,
            evidence=report["switch_evidence"],
            sites=(),
            cure=(
                "One process with threads needs one context: no switches between owners. Where it must be processes, "
                "NVIDIA's MPS runs their work side by side."
            ),
            kind="cuda",
            detail="at most: what the GPU idled between two owners for lack of work is in the gaps",
        ),
    )


def cuda_not_observed(report: dict[str, Any]) -> tuple[NotObserved, ...]:
    if not report:
        return (NotObserved("cuda", "--cuda was not given"),)
    missing = []
    if report["rung"] == "E":
        missing.append(NotObserved("cuda", report["reason"]))
    else:
        missing += [
            NotObserved(f"cuda: {what}", f"{report['source']} does not show it") for what in report["cannot_see"]
        ]
        missing += [NotObserved(f"cuda in process {item['pid']}", item["reason"]) for item in report["failures"]]
    if report.get("switches_incomplete"):
        missing.append(NotObserved("cuda: context switches", "CUPTI gave none of some contexts, so they are estimated"))
    if report["rung"] in "BC" and report["reason"]:
        missing.append(NotObserved("cuda: context switches", report["reason"]))
    for pid in report.get("cut_short", ()):
        missing.append(
            NotObserved(f"cuda: the last work of process {pid}", "it was killed before CUPTI handed it over")
        )
    for name, count in report.get("lost", {}).items():
        if count:
            what = {"dropped": "GPU records", "unread": "GPU buffers", "lost": "CUDA calls and GPU records"}[name]
            why = {
                "dropped": "CUPTI had no room for them",
                "unread": "could not be read to their end",
                "lost": "came while the recorder was busy, full or ending",
            }[name]
            missing.append(NotObserved(f"{count} {what}", why))
    return tuple(missing)
