"""The CUDA part of a report, in lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gilprobe.render.wording import percent, plain, seconds

MOST_CONTEXTS, MOST_WAITS = 8, 3
REPLAY = "REPLAY: records handed back by a stand-in for libcupti. Nothing here was measured on a GPU."


def cuda_lines(cuda: dict[str, Any]) -> list[str]:
    """None where CUDA was not asked for."""
    return list(_lines(cuda)) if cuda else []


def _lines(cuda: dict[str, Any]) -> Iterator[str]:
    rung, reason = cuda.get("rung", "E"), plain(str(cuda.get("reason", "")), 300)
    if cuda.get("replay"):
        yield REPLAY
    if rung == "E":
        yield f"CUDA [unavailable]: {reason}"
        return
    yield f"CUDA by {plain(str(cuda['source']), 40)} (rung {rung} of A to E)" + (f": {reason}" if reason else "")
    if rung == "D":
        yield from _nvml(cuda)
        return
    if "window_s" in cuda:
        yield f"of {seconds(cuda['window_s'])} of the run only"
    gaps = cuda["gaps"]
    error = cuda.get("clock_error_s")
    yield (
        f"GPU busy {seconds(cuda['busy_s'])} of {seconds(cuda['gpu_s'])} [{cuda['evidence']}]; it changed hands "
        f"{cuda['changes']} times, {cuda['changes_per_s']:.0f} a second [{cuda['switch_evidence']}]"
    )
    yield (
        f"between owners it lay still for {seconds(gaps['total_s'])}, {percent(gaps['share'])} of its time (median "
        f"{seconds(gaps['median_s'])}, 95 % below {seconds(gaps['p95_s'])}) [{cuda['switch_evidence']}]"
    )
    yield (
        "clocks of processes may be apart by "
        + ("an unknown time [unavailable]" if error is None else f"{seconds(error)} at most [{cuda['evidence']}]")
    )
    if cuda.get("under_mps"):
        yield "MPS serves these processes: to the GPU they are one owner, and work of theirs may run side by side"
    if "set_current_per_s" in cuda:
        yield f"contexts were made current {cuda['set_current_per_s']:.0f} times a second [{cuda['evidence']}]"
    if rung == "A" and not cuda.get("calibrated"):
        failed = cuda.get("calibrated") is False
        yield "switches are uncalibrated: the known-answer test (make gpu-study) " + (
            "failed here" if failed else "has not run here"
        )
    figures, seen = cuda.get("figures", {}), cuda["evidence"]
    for context in cuda.get("contexts", ())[:MOST_CONTEXTS]:
        yield f"  {_context(context, figures, seen)}"
    contexts = len(cuda.get("contexts", ())) + cuda.get("contexts_left_out", 0)
    if contexts > MOST_CONTEXTS:
        yield f"  and {contexts - MOST_CONTEXTS} more contexts"
    several = len(cuda.get("processes", ())) > 1
    for wait in cuda.get("waits_while_idle", ())[:MOST_WAITS]:
        yield f"  {_wait(wait, several)} [{figures.get('waits_while_idle', seen)}]"


def _context(context: dict[str, Any], figures: dict[str, str], seen: str) -> str:
    busy, resident = seconds(context["busy_s"]), context.get("resident_s")
    said = f"process {context['pid']} context {context['context']}: {context['kernels']} kernels, {context['copies']} "
    said += f"copies [{seen}], busy {busy} [{figures.get('contexts_busy_s', seen)}]"
    if resident is not None:
        said += f", on the GPU {seconds(resident)} [{figures.get('resident_s', seen)}]"
    if context["threads"] is None:
        said += ", threads that made it current [unavailable]"
    else:
        said += (
            f", {context['threads']} threads, {context['set_current'] + context['pushed']} times made current [{seen}]"
        )
    return said + (", under MPS" if context.get("mps") else "")


def _wait(wait: dict[str, Any], several: bool) -> str:
    process = f" of process {wait['pid']}" if several else ""
    releaser, waiter = plain(str(wait["releaser"]), 30), plain(str(wait["waiter"]), 30) + process
    times = f"{seconds(wait['idle_s'])} in {wait['count']} waits, {seconds(wait['longest_s'])} at most"
    if wait["kind"] == "gil" and releaser:
        return f"{releaser} held the GIL, and {waiter} waited, while the GPU was idle: {times}"
    return f"{waiter} waited ({wait['kind']}) for {releaser or '? (not seen)'} while the GPU was idle: {times}"


def _nvml(cuda: dict[str, Any]) -> Iterator[str]:
    sampled = cuda["nvml"]
    gpu, jpg = (
        "[unavailable]" if sampled[name] is None else f"{percent(sampled[name])} [estimated]"
        for name in ("gpu_share", "jpg_share")
    )
    yield (
        f"GPU in use {gpu} of {sampled['samples']} samples' time, NVJPG {jpg}, "
        f"{sampled['processes']} processes at once at most [estimated]"
    )
