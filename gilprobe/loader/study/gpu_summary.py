"""What the GPU study's answers say: threads over processes, and the share of it that context switching explains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from gilprobe.loader.study.gpu import MODES

HEADS = (
    "build", "backend", "workers", "mode", "images/s", "range", "traced", "contexts", "changes/s", "gaps", "NVJPG",
)  # fmt: skip


def summarize(answers: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """rows: one a build, backend, worker count and mode. comparisons: threads against processes. Failures are kept."""
    groups: dict[tuple[str, str, int, str], list[dict[str, Any]]] = {}
    for answer in answers.values():
        place = answer["build"], answer["backend"], answer["workers"], answer["mode"]
        groups.setdefault(place, []).append(answer)
    rows = [row for place, group in sorted(groups.items()) if (row := _row(place, group))]
    return {
        "replay": any(answer.get("cuda", {}).get("replay") for answer in answers.values()),
        "rows": rows,
        "comparisons": list(_comparisons(rows)),
        "failures": [{"cell": key, "error": a["error"]} for key, a in answers.items() if "error" in a],
    }


def _row(place: tuple[str, str, int, str], group: list[dict[str, Any]]) -> dict[str, Any] | None:
    untraced = [a for a in sorted(group, key=lambda a: a["round"]) if not a["traced"] and "error" not in a]
    if not untraced:
        return None
    speeds = [a["images_per_s"] for a in untraced]
    row: dict[str, Any] = dict(zip(("build", "backend", "workers", "mode"), place, strict=True))
    row |= {"images_per_s": median(speeds), "range": [min(speeds), max(speeds)], "rounds": len(speeds)}
    # A package that does not support free threading turns the GIL on again.
    row["gil"] = any(a.get("gil", True) for a in untraced)
    row["by_round"] = {str(a["round"]): a["images_per_s"] for a in untraced}
    traced = next((a for a in group if a["traced"] and "error" not in a), None)
    if traced:
        row["traced_over_untraced"] = traced["images_per_s"] / row["images_per_s"]
        row["cuda"] = {
            name: traced["cuda"][name]
            for name in (
                "rung", "reason", "changes_per_s", "gaps", "switch_evidence", "calibrated", "clock_error_s", "busy_s",
                "gpu_s", "set_current_per_s", "nvml",
            )
            if name in traced["cuda"]
        }  # fmt: skip
        row["cuda"]["contexts"] = sum(item["contexts"] for item in traced["cuda"].get("processes", ()))
        row["cuda"]["under_mps"] = any(item.get("mps") for item in traced["cuda"].get("contexts", ()))
    return row


def _comparisons(rows: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    by_place = {(row["build"], row["backend"], row["workers"], row["mode"]): row for row in rows}
    for (build, backend, workers, mode), threads in by_place.items():
        processes = by_place.get((build, backend, workers, MODES[1]))
        if mode != MODES[0] or processes is None:
            continue
        shared = threads["by_round"].keys() & processes["by_round"].keys()
        ratios = [threads["by_round"][r] / processes["by_round"][r] for r in sorted(shared)]
        if not ratios:
            continue
        mps = by_place.get((build, backend, workers, MODES[2]))
        if mps and not mps.get("cuda", {}).get("under_mps", True):
            mps = None
        found = {"build": build, "backend": backend, "workers": workers, "ratio": median(ratios),
                 "range": [min(ratios), max(ratios)], "rounds": len(ratios)}  # fmt: skip
        outcome = _outcome(ratios)
        yield found | explained(threads, processes, mps, outcome) | {"outcome": outcome}


def _outcome(ratios: list[float]) -> str:
    if len(ratios) < 2:
        return "undecided"
    return "ahead" if min(ratios) > 1 else "behind" if max(ratios) < 1 else "undecided"


def explained(
    threads: dict[str, Any], processes: dict[str, Any], mps: dict[str, Any] | None, outcome: str = "ahead"
) -> dict[str, Any]:
    """gaps_explain: share (0-1) of the difference in speed that would go if the GPU lay still between no two owners.

    At most: gaps hold idling for lack of work too. None where threads are not ahead or the gaps are not known.
    mps_closes: share of the difference that MPS takes away; may be negative, or above 1.
    """
    difference = threads["images_per_s"] - processes["images_per_s"]
    gaps = processes.get("cuda", {}).get("gaps", {}).get("share")
    wins = difference > 0 and outcome == "ahead"
    at_most = None
    if wins and gaps is not None and gaps < 1:
        without = processes["images_per_s"] / (1 - gaps)
        at_most = min(1.0, (without - processes["images_per_s"]) / difference)
    closes = (mps["images_per_s"] - processes["images_per_s"]) / difference if wins and mps else None
    return {
        "gaps_explain_at_most": at_most,
        "evidence": processes.get("cuda", {}).get("switch_evidence", "unavailable"),
        "mps_closes": closes,
        "verdict": _verdict(outcome, wins, at_most, closes),
    }


def _verdict(outcome: str, wins: bool, at_most: float | None, closes: float | None) -> str:
    if outcome == "undecided":
        return "which is faster is not decided by these rounds: there is no difference to explain"
    if not wins:
        return "threads do not win here: there is nothing for context switching to explain"
    if at_most is None:
        return "the gaps between owners are not known"
    said = f"switching explains at most {at_most:.0%} of the difference"
    if closes is None:
        return said + "; without MPS there is no second witness"
    if closes < 0.5:
        return said + f"; MPS closes {closes:.0%} of it, so context switching is not the main cause"
    return said + f"; MPS closes {closes:.0%} of it"


def table(summary: dict[str, Any]) -> list[list[str]]:
    """HEADS, one row of text a row."""
    return [
        [
            row["build"] + (", GIL on" if row["build"].endswith("t") and row["gil"] else ""),
            row["backend"], str(row["workers"]), row["mode"], f"{row['images_per_s']:.0f}",
            f"{row['range'][0]:.0f}-{row['range'][1]:.0f}",
            f"{row['traced_over_untraced']:.2f}x" if "traced_over_untraced" in row else "-",
            *_seen(row),
        ]
        for row in summary["rows"]
    ]  # fmt: skip


def _seen(row: dict[str, Any]) -> tuple[str, str, str, str]:
    cuda = row.get("cuda", {})
    jpg = cuda.get("nvml", {}).get("jpg_share")
    hardware = "-" if jpg is None else f"~{jpg:.0%}"
    if "gaps" not in cuda:
        return "-", "-", "-", hardware
    if row["mode"] == MODES[2] and not cuda["under_mps"]:
        return str(cuda["contexts"]), "MPS did not serve", "-", hardware
    how = {"measured": "", "estimated": "~"}.get(cuda["switch_evidence"], "?")
    return str(cuda["contexts"]), f"{how}{cuda['changes_per_s']:.0f}", f"{how}{cuda['gaps']['share']:.1%}", hardware
