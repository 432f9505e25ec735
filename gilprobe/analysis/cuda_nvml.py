"""Rung D: what NVML's samples say, which is not much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gilprobe.model import Evidence


def add_nvml(report: dict[str, Any], samples: Sequence[dict[str, Any]]) -> None:
    """samples: gpu, jpg (0-100 or null), processes (a list of {pid, mps}); one every tenth of a second."""
    report["evidence"] = Evidence.ESTIMATED if samples else Evidence.UNAVAILABLE
    report["nvml"] = {
        "samples": len(samples),
        "gpu_share": _mean_share(samples, "gpu"),
        "jpg_share": _mean_share(samples, "jpg"),
        "processes": max((len(sample.get("processes", ())) for sample in samples), default=0),
        "mps": any(process.get("mps") for sample in samples for process in sample.get("processes", ())),
    }
    report["figures"] = {
        name: Evidence.UNAVAILABLE if report["nvml"][name] is None else Evidence.ESTIMATED
        for name in ("gpu_share", "jpg_share")
    } | {"processes": report["evidence"]}


def _mean_share(samples: Sequence[dict[str, Any]], name: str) -> float | None:
    known = [float(sample[name]) for sample in samples if sample.get(name) is not None]
    return sum(known) / 100 / len(known) if known else None
