"""The known-answer test: two processes x 150 spins of 1 ms. Do the GPU's switch records give each about 150 ms?"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from gilprobe.analysis.cuda_rungs import failure
from gilprobe.analysis.gpu_timeline import residency_of
from gilprobe.recording import read_folder
from gilprobe.recording.cuda_schema import CudaStep, GpuMarkKind
from reports.gpu_study import spin

SPINS, BAR = 150, 0.05
START_AFTER_S = 8
LIMIT_S = 90


def calibrate(python: str, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Leaves two recordings in `folder`. calibrated: None where the GPU's switches are not recorded at all."""
    script = str(Path(spin.__file__))
    alone = _run([python, script, "solo"], environment)
    turns = alone["turns"]
    start_ns = time.monotonic_ns() + int(START_AFTER_S * 1e9)
    command = [
        sys.executable,
        "-m",
        "gilprobe",
        "profile",
        "-q",
        "--force",
        "--rate",
        "0",
        "--cuda=cupti",
        "--cuda-raw",
        "500",
    ]
    command += ["--python", python]
    children = [
        subprocess.Popen(
            [*command, "-o", str(folder / f"spin-{number}"), script, "run", str(turns), str(SPINS), str(start_ns)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for number in range(2)
    ]  # fmt: skip
    answers = []
    for child in children:
        out, error = child.communicate(timeout=LIMIT_S)
        if child.returncode:
            raise RuntimeError(error.strip()[-300:])
        answers.append(json.loads(out.splitlines()[-1]))
    expected_s = SPINS * alone["solo_ms"] / 1e3
    folders = [folder / f"spin-{number}" for number in range(2)]
    resident_s = [
        _resident_s(spins, answer["begin_ns"], answer["begin_ns"] + round(answer["wall_s"] * 1e9))
        for spins, answer in zip(folders, answers, strict=True)
    ]
    return {
        "switches": [_described(spins) for spins in folders],
        "replay": any(state["replay"] for spins in folders for r in read_folder(spins) for state in r.cuda.states),
        "off": next((said for spins in folders if (said := _why_off(spins))), ""),
        "solo_ms": alone["solo_ms"],
        "expected_s": expected_s,
        "resident_s": resident_s,
        "wall_s": [answer["wall_s"] for answer in answers],
        "together": all(answer["late_ns"] == 0 for answer in answers),
        **judge(expected_s, resident_s),
    }


def judge(expected_s: float, resident_s: list[float | None]) -> dict[str, Any]:
    """calibrated: all within the bar; None where a process has no switch record."""
    known = [value for value in resident_s if value is not None]
    if len(known) < len(resident_s) or not known:
        return {"calibrated": None, "verdict": "uncalibrated: the GPU's switches are not recorded"}
    worst = max(abs(value / expected_s - 1) for value in known)
    good = worst <= BAR
    said = f"residency is {worst:.1%} off at most, the bar is {BAR:.0%}"
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
    return next((failure(state) for state in states if state["step"] != CudaStep.ON), "") if states else "no CUDA call"


def _run(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-300:])
    read: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return read
