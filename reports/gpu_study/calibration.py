"""The known-answer test: two processes x 150 spins of 1 ms. Do the GPU's switch records give each about 150 ms?"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gilprobe.analysis.gpu_timeline import residency_of
from gilprobe.recording import read_folder
from reports.gpu_study import spin

SPINS, SPIN_S, WARM_UP_S, BAR = 150, 0.001, 0.02, 0.05
START_AFTER_S = 8
LIMIT_S = 90


def calibrate(python: str, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Leaves two recordings in `folder`. calibrated: None where the GPU's switches are not recorded at all."""
    script = str(Path(spin.__file__))
    alone = _run([python, script, "solo"], environment)
    turns = alone["turns"]
    start_ns = time.monotonic_ns() + int(START_AFTER_S * 1e9)
    command = [sys.executable, "-m", "gilprobe", "profile", "-q", "--rate", "0", "--cuda=cupti", "--cuda-raw", "500"]
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
    resident_s = [_resident_s(folder / f"spin-{i}", answer["begin_ns"]) for i, answer in enumerate(answers)]
    return {
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


def _resident_s(folder: Path, begin_ns: int) -> float | None:
    """From the first measured launch on: the warm-up before it is not part of the answer."""
    found = None
    for recording in read_folder(folder):
        spans, _ = residency_of(recording.cuda.all_marks())
        for start, end in spans.values():
            inside = (end - start.clip(min=begin_ns)).clip(min=0)
            found = (found or 0.0) + float(inside[end > begin_ns].sum()) / 1e9
    return found


def _run(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-300:])
    read: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return read
