"""Rung D: what NVML's samples say, which is not much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gilprobe.model import Evidence


def add_nvml(report: dict[str, Any], samples: Sequence[dict[str, Any]]) -> None:
    """samples: gpu, jpg (0-100 or null), processes (a list of {pid, mps}); one every tenth of a second."""
    jpg = [sample["jpg"] for sample in samples if sample.get("jpg") is not None]
    report["evidence"] = Evidence.ESTIMATED
    report["nvml"] = {
        "samples": len(samples),
        "gpu_share": sum(sample.get("gpu") or 0 for sample in samples) / 100 / len(samples),
        "jpg_share": sum(jpg) / 100 / len(jpg) if jpg else None,
        "processes": max(len(sample.get("processes", ())) for sample in samples),
        "mps": any(process.get("mps") for sample in samples for process in sample.get("processes", ())),
    }
