"""The known-answer test: two processes x 150 spins of 1 ms. Do the GPU's switch records give each about 150 ms?"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from gilprobe.analysis.cuda_rungs import failure
from gilprobe.analysis.gpu_timeline import residency_of
from gilprobe.loader.study.bounded import answer, answer_of, started
from gilprobe.recording import read_folder
from gilprobe.recording.cuda_schema import CudaStep, GpuMarkKind
from gilprobe.recording.ladder import read_ladder
from reports.gpu_study import spin

SPINS, BAR = 150, 0.05
PROCESSES = 2
START_AFTER_S = 1.0  # once both are ready
RAW_RECORDS = 500
SCRIPT = str(Path(spin.__file__))


def alone(python: str, environment: dict[str, str], limit_s: float) -> dict[str, Any]:
    """turns: of the loop that take 1 ms on this GPU. Raises RuntimeError where the kernel does not run."""
    return _good(answer_of([python, SCRIPT, "solo"], environment, limit_s))


def calibrate(
    python: str, folder: Path, environment: dict[str, str], solo: dict[str, Any], limit_s: float
) -> dict[str, Any]:
    """Leaves two recordings in `folder`, which is new. calibrated: None where the GPU's switches are not recorded.

    Raises RuntimeError where the two did not run to their end within limit_s.
    """
    end = time.monotonic() + limit_s
    folder.mkdir()
    command = [sys.executable, "-m", "gilprobe", "profile", "-q", "--rate", "0", "--cuda=cupti"]
    command += ["--cuda-raw", str(RAW_RECORDS), "--python", python]
    spins = [SCRIPT, "run", str(solo["turns"]), str(SPINS), str(folder)]
    folders = [folder / f"spin-{number}" for number in range(PROCESSES)]
    with ExitStack() as stack:
        children = [stack.enter_context(started([*command, "-o", str(own), *spins], environment)) for own in folders]
        while len(list(folder.glob("ready-*"))) < PROCESSES and all(child.poll() is None for child in children):
            if time.monotonic() > end:
                raise RuntimeError(f"the two processes were not ready after {limit_s:.0f} s")
            time.sleep(0.01)
        (folder / "begin").write_text(str(time.monotonic_ns() + int(START_AFTER_S * 1e9)))
        (folder / "begin").rename(folder / "start")
        answers = [_good(answer(child, end - time.monotonic())) for child in children]
    expected_s = SPINS * solo["solo_ms"] / 1e3
    resident_s = [
        _resident_s(own, spun["begin_ns"], spun["begin_ns"] + round(spun["wall_s"] * 1e9))
        for own, spun in zip(folders, answers, strict=True)
    ]
    together = all(spun["late_ns"] == 0 for spun in answers)
    return {
        "switches": [_described(own) for own in folders],
        "cupti": _versions(folders),
        "replay": any(state["replay"] for own in folders for r in read_folder(own) for state in r.cuda.states),
        "off": next((said for own in folders if (said := _why_off(own))), ""),
        "solo_ms": solo["solo_ms"],
        "expected_s": expected_s,
        "resident_s": resident_s,
        "wall_s": [spun["wall_s"] for spun in answers],
        "together": together,
        **judge(expected_s, resident_s, together),
    }


def _good(read: dict[str, Any]) -> dict[str, Any]:
    if "error" in read:
        raise RuntimeError(read["error"])
    return read


def judge(expected_s: float, resident_s: list[float | None], together: bool) -> dict[str, Any]:
    """calibrated: all within the bar, of processes that ran together; None where one has no switch record."""
    known = [value for value in resident_s if value is not None]
    if len(known) < len(resident_s) or not known:
        return {"calibrated": None, "verdict": "uncalibrated: the GPU's switches are not recorded"}
    worst = max(abs(value / expected_s - 1) for value in known)
    good = worst <= BAR and together
    said = f"residency is {worst:.1%} off at most, the bar is {BAR:.0%}"
    said += "" if together else ", and the two processes did not run together"
    return {"calibrated": good, "verdict": said if good else f"uncalibrated: {said}"}


def _resident_s(folder: Path, begin_ns: int, end_ns: int) -> float | None:
    """From the first measured launch to the last one's end: before is warm-up, and after it an idle context may stay
    on the GPU until another wants it."""
    found = None
    for recording in read_folder(folder):
        spans, _ = residency_of(recording.cuda.all_marks())
        for start, end in spans.values():
            inside = end.clip(max=end_ns) - start.clip(min=begin_ns)
            found = (found or 0.0) + float(inside[inside > 0].sum()) / 1e9
    return found


def _described(folder: Path) -> dict[str, Any]:
    """What the switch records of one process look like, whatever they mean: should START and END bound the switch and
    not the residency, it is seen here. Medians in seconds, None where there are none."""
    marks = [recording.cuda.all_marks() for recording in read_folder(folder)]
    found: dict[str, Any] = {"starts": 0, "ends": 0, "contexts": 0, "start_to_end_s": None, "end_to_start_s": None}
    for own in marks:
        own = own[(own["kind"] == GpuMarkKind.SWITCH_START) | (own["kind"] == GpuMarkKind.SWITCH_END)]
        own = own[np.argsort(own["time_ns"], kind="stable")]
        begins = own["kind"] == GpuMarkKind.SWITCH_START
        found["starts"] += int(begins.sum())
        found["ends"] += int((~begins).sum())
        found["contexts"] += len(np.unique(own["context"]))
        steps = np.diff(own["time_ns"].astype(np.int64))
        for name, chosen in (
            ("start_to_end_s", begins[:-1] & ~begins[1:]),
            ("end_to_start_s", ~begins[:-1] & begins[1:]),
        ):
            if chosen.any():
                found[name] = float(np.median(steps[chosen])) / 1e9
    return found


def _why_off(folder: Path) -> str:
    """Why CUPTI recorded nothing in one process; empty where it did."""
    states = [state for recording in read_folder(folder) for state in recording.cuda.states]
    if not states:
        return str(read_ladder(folder).get("reason") or "CUPTI was not asked for, or there was no CUDA call")
    return next((failure(state) for state in states if state["step"] != CudaStep.ON), "")


def _versions(folders: list[Path]) -> list[int]:
    return sorted({int(s["version"]) for own in folders for r in read_folder(own) for s in r.cuda.states})
