"""The study on this machine in three calls, its table last.

Each call takes six minutes at most and is complete on a bare machine: it unpacks build/gpu-carry (`make gpu-carry`),
goes on from the answers in reports/gpu-nvimagecodec, and leaves at most six files in FOLDER. Without --call all three
run one after the other. Without a GPU nothing is measured or written.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gilprobe.errors import GilprobeError
from gilprobe.loader.study.gpu import MODES, GpuCell, GpuStudy, cells, require_gpu
from gilprobe.loader.study.gpu_summary import HEADS, summarize, table
from gilprobe.render.cuda import REPLAY
from reports.environment import ROOT
from reports.gpu_study.calibration import calibrate
from reports.gpu_study.carry import CARRY
from reports.gpu_study.fixture import write_fixture
from reports.gpu_study.page import write_page

HERE = ROOT / "reports" / "gpu-nvimagecodec"
CALL_S = 330  # of six minutes; the rest is for the last cell and the table
GIL, FREE_THREADED = f"{sys.version_info.major}.{sys.version_info.minor}", "3.13t"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--call", type=int, choices=(1, 2, 3), help="one call only")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for what it leaves")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each cell")
    options = parser.parse_args()
    gpu = require_gpu()
    if not (CARRY / "site.tgz").exists():
        raise GilprobeError("build/gpu-carry is missing", "Build it where there is a network: make gpu-carry")
    options.out.mkdir(parents=True, exist_ok=True)
    for call in (options.call,) if options.call else (1, 2, 3):
        with tempfile.TemporaryDirectory(prefix="gilprobe-gpu-") as work:
            Call(call, Path(work), options.out, gpu, options.seconds).run()


class Call:
    """answers: of this and of earlier calls, by cell; `calibration` and `environment` are two more of them."""

    def __init__(self, number: int, work: Path, out: Path, gpu: dict[str, Any], seconds: float) -> None:
        self.number, self.work, self.out, self.gpu, self.seconds = number, work, out, gpu, seconds
        self.end = time.monotonic() + CALL_S
        self.answers = _read(HERE / "answers.jsonl") | _read(out / "answers.jsonl")
        self.python_t = ""

    def run(self) -> None:
        self._unpack()
        with (self.out / "answers.jsonl").open("w") as self.log:
            for key, answer in list(self.answers.items()):
                self._keep(key, answer)
            self._keep("environment", _environment(self.gpu))
            if "calibration" not in self.answers:
                self._keep("calibration", self._calibrate())
            calibrated = self.answers["calibration"].get("calibrated")
            pythons = {GIL: sys.executable} | ({FREE_THREADED: self.python_t} if self.python_t else {})
            study = GpuStudy(
                pythons,
                CARRY / "pictures.pickle",
                self.work,
                environment=self._variables(),
                calibrated=calibrated,
                seconds=self.seconds,
            )
            measured = {key: a for key, a in self.answers.items() if "|" in key}
            study.run(list(self._cells()), measured, lambda: time.monotonic() > self.end, self._keep)
            self.answers |= measured
        summary = {"environment": self.answers["environment"], "calibration": self.answers["calibration"]}
        summary |= summarize({key: answer for key, answer in self.answers.items() if "|" in key})
        write_page(self.out, summary)
        _print(summary)

    def _cells(self) -> Sequence[GpuCell]:
        if self.number == 1:  # one decode on each backend
            return [GpuCell(GIL, MODES[0], backend, 1, False, 0) for backend in ("hybrid", "gpu", "hardware")]
        if self.number == 2:
            return list(cells([GIL], MODES, ["hybrid"]))
        free = list(cells([FREE_THREADED], MODES[:2], ["hybrid"])) if self.python_t else []
        return [*free, *cells([GIL], MODES[:2], ["hardware"], rounds=2)]

    def _calibrate(self) -> dict[str, Any]:
        try:
            found = calibrate(sys.executable, self.work, os.environ | self._variables())
        except (RuntimeError, OSError, GilprobeError) as error:
            return {"calibrated": None, "verdict": f"uncalibrated: the known-answer test did not run: {error}"}
        write_fixture([self.work / "spin-0", self.work / "spin-1"], self.out / "fixture.json.gz")
        return found

    def _unpack(self) -> None:
        for name in ("site.tgz", "python-t.tgz"):
            if (CARRY / name).exists():
                with tarfile.open(CARRY / name) as packed:
                    packed.extractall(self.work, filter="data")
        python_t = self.work / "python-t" / "bin" / "python3.13t"
        self.python_t = str(python_t) if python_t.exists() else ""
        library = ROOT / "gilprobe" / "native" / "libgilprobe.so"
        if not library.exists():
            shutil.copy(CARRY / "libgilprobe.so", library)

    def _variables(self) -> dict[str, str]:
        paths = [ROOT, self.work / "site", self.work / "pure"]
        existing = os.environ.get("PYTHONPATH")
        return {
            "PYTHONPATH": os.pathsep.join([*map(str, paths), *([existing] if existing else [])]),
            "PYTHONSAFEPATH": "1",
        }

    def _keep(self, key: str, answer: dict[str, Any]) -> None:
        self.answers[key] = answer
        self.log.write(json.dumps({"key": key, "answer": answer}) + "\n")
        self.log.flush()
        print(f"{key}: {answer.get('error') or answer.get('images_per_s') or answer.get('verdict', '')}", flush=True)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The line that was being written when a call was broken off is left out."""
    found = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        found[entry["key"]] = entry["answer"]
    return found


def _environment(gpu: dict[str, Any]) -> dict[str, Any]:
    from reports.environment import described

    return described() | {
        "driver_supports_cuda": f"{gpu['driver'] // 1000}.{gpu['driver'] % 1000 // 10}",
        **_named(gpu),
    }


def _named(gpu: dict[str, Any]) -> dict[str, Any]:
    import ctypes

    name = ctypes.create_string_buffer(96)
    ctypes.CDLL("libcuda.so.1").cuDeviceGetName(name, 96, 0)
    carried = (CARRY / "cuda").read_text().strip()
    fits = gpu["driver"] // 1000 >= int(carried)
    return {
        "gpu": name.value.decode(errors="replace"),
        "carried_for_cuda": carried,
        "note": ""
        if fits
        else "the driver is older than what was carried: make gpu-carry CUDA=12, and run call 1 again",
    }


def _print(summary: dict[str, Any]) -> None:
    rows = [list(HEADS), *table(summary)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEADS))]
    print()
    if summary["replay"]:
        print(REPLAY)
    for failure in summary["failures"]:
        print(f"not measured: {failure['cell']}: {failure['error']}")
    for comparison in summary["comparisons"]:
        low, high = comparison["range"]
        print(
            f"{comparison['build']}, {comparison['backend']}, {comparison['workers']} workers: threads / processes "
            f"{comparison['ratio']:.2f} ({low:.2f}-{high:.2f}), {comparison['outcome']}: {comparison['verdict']}"
        )
    print(f"switches: {summary['calibration']['verdict']}")
    if summary["environment"]["note"]:
        print(summary["environment"]["note"])
    print()
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
