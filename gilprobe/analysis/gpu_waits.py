"""Host waits joined to the GPU's work: who kept others waiting while the GPU had nothing to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from gilprobe.analysis.contention import ClassifiedWait, thread_name
from gilprobe.analysis.cuda import cuda_of
from gilprobe.analysis.gpu_timeline import Times, idle_within
from gilprobe.model import Evidence, WaitKind
from gilprobe.recording import Recording

MOST_ROWS = 20


def gpu_of(recordings: Sequence[Recording], waits: Sequence[ClassifiedWait]) -> dict[str, Any]:
    """The JSON report's `cuda`; empty where --cuda was not given."""
    gpu = cuda_of(recordings)
    if not gpu.report:
        return {}
    figures = {"waits_while_idle": _evidence(gpu.report)} | gpu.report.get("figures", {})
    return {**gpu.report, "figures": figures, "waits_while_idle": waits_while_idle(waits, gpu.busy)}


def _evidence(report: dict[str, Any]) -> Evidence:
    """Where nothing bounds how far the GPU's times lie off the waits', a wait may not have been when it seems."""
    if "busy_s" not in report:
        return Evidence.UNAVAILABLE
    return Evidence.ESTIMATED if report.get("clock_error_s") is None else Evidence(report["evidence"])


def waits_while_idle(waits: Sequence[ClassifiedWait], busy: tuple[Times, Times]) -> list[dict[str, Any]]:
    """Per kind, waiter and releaser: seconds in which the wait went on and the GPU was idle, and the longest of them.

    Only between the GPU's first and last work; needs every single wait (--events). busy as in analysis.cuda.Gpu.
    """
    if not len(busy[0]):
        return []
    by_recording: dict[int, list[ClassifiedWait]] = defaultdict(list)
    for wait in waits:
        by_recording[id(wait.recording)].append(wait)
    found: dict[tuple[int, str, str, str], list[float]] = {}
    for own in by_recording.values():
        recording = own[0].recording
        if not recording.events or len(own) != len(recording.waits):
            continue
        events = np.concatenate(recording.events)
        start = events["start_ns"].astype(np.int64)
        blocked = np.maximum(events["duration_ns"].astype(np.int64) - events["wake_ns"].astype(np.int64), 0)
        low = np.maximum(start, busy[0][0])
        high = np.maximum(np.minimum(start + blocked, busy[1][-1]), low)
        idle = idle_within(low, high, *busy)
        contended = {int(r["wait_id"]): w for r, w in zip(recording.waits, own, strict=True) if _counts(w)}
        order = np.argsort(events["wait_id"], kind="stable")
        ids, firsts = np.unique(events["wait_id"][order], return_index=True)
        for wait_id, part in zip(ids.tolist(), np.split(idle[order], firsts[1:]), strict=True):
            if wait_id not in contended or not part.any():
                continue
            wait = contended[wait_id]
            names = thread_name(recording, wait.thread), thread_name(recording, wait.releaser_thread)
            key = recording.header["pid"], str(wait.classified.kind), *names
            row = found.setdefault(key, [0.0, 0.0, 0.0])
            row[0] += int((part > 0).sum())
            row[1] += float(part.sum()) / 1e9
            row[2] = max(row[2], float(part.max()) / 1e9)
    rows = [
        {
            "pid": pid, "kind": kind, "waiter": waiter, "releaser": releaser,
            "count": int(count), "idle_s": total_s, "longest_s": longest_s,
        }
        for (pid, kind, waiter, releaser), (count, total_s, longest_s) in found.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -float(str(row["idle_s"])))[:MOST_ROWS]


def _counts(wait: ClassifiedWait) -> bool:
    return wait.classified.kind in set(WaitKind)
