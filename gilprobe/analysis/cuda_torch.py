"""Rung C: kernels and copies as torch.profiler wrote them (Chrome's trace event format, with kineto's arguments)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from gilprobe.analysis.gpu_ownership import ownership
from gilprobe.analysis.gpu_timeline import Times, intervals_of, union_of
from gilprobe.model import Evidence
from gilprobe.recording.ladder import KINETO_SUFFIX

COPIES = ("gpu_memcpy", "gpu_memset")
UNSEEN = (
    "threads", "streams", "copied_bytes", "set_current", "pushed", "life_s", "resident_s", "clock_error_s",
    "set_current_per_s", "waits_while_idle",
)  # fmt: skip


def add_kineto(report: dict[str, Any], folder: Path) -> tuple[Times, Times]:
    """The files' times are microseconds of a clock of their own: waits cannot be joined to them."""
    parts: list[tuple[Any, Any, int]] = []
    contexts: list[dict[str, Any]] = []
    devices: dict[int, int] = {}
    for path in sorted(folder.glob("*" + KINETO_SUFFIX)):
        groups: dict[tuple[int, int], list[tuple[int, int, bool]]] = {}
        for event in _events(path):
            arguments = event.get("args", {})
            key = int(arguments.get("device", 0)), int(arguments.get("context", 0))
            start_ns = round(float(event["ts"]) * 1e3)
            groups.setdefault(key, []).append(
                (start_ns, start_ns + round(float(event["dur"]) * 1e3), event["cat"] in COPIES)
            )
        for (device, number), rows in groups.items():
            owner = len(contexts) + 1
            devices[owner] = device
            table = np.array(rows, np.int64)
            parts.append((table[:, 0], table[:, 1], owner))
            one = intervals_of([parts[-1]])
            start, end = union_of(one.start, one.end)
            contexts.append(
                {
                    "pid": int(path.name.partition(".")[0]), "context": number, "device": device, "mps": None,
                    "kernels": int((table[:, 2] == 0).sum()), "copies": int(table[:, 2].sum()), "copied_bytes": None,
                    "busy_s": float((end - start).sum()) / 1e9, "resident_s": None, "threads": None, "streams": None,
                    "set_current": None, "pushed": None, "life_s": None,
                }
            )  # fmt: skip
    work = intervals_of(parts)
    report["contexts"] = contexts
    report["processes"] = [
        {"pid": c["pid"], "contexts": 1, "busy_s": c["busy_s"], "resident_s": None, "threads": None} for c in contexts
    ]
    report |= ownership(work, work, devices)
    report["evidence"] = Evidence.ESTIMATED if report["replay"] else Evidence.MEASURED
    report["switch_evidence"] = Evidence.ESTIMATED
    report["clock_error_s"] = None
    seen = report["evidence"]
    shared = len(devices) > len(set(devices.values()))
    report["figures"] = {
        **dict.fromkeys(("contexts", "kernels", "copies", "gpu_s", "busy_s"), seen),
        "contexts_busy_s": Evidence.ESTIMATED if shared else seen,
        **dict.fromkeys(("changes", "changes_per_s", "gaps"), Evidence.ESTIMATED),
        **dict.fromkeys(UNSEEN, Evidence.UNAVAILABLE),
    }
    none: Times = np.empty(0, np.int64)
    return none, none


def _events(path: Path) -> list[dict[str, Any]]:
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    events = read.get("traceEvents", ()) if isinstance(read, dict) else ()
    return [e for e in events if e.get("ph") == "X" and e.get("cat") in ("kernel", *COPIES) and "dur" in e]
