"""The study on this machine in three calls, its table last.

Each call takes six minutes at most and is complete on a bare machine: it unpacks build/gpu-carry (`make gpu-carry`),
goes on from the answers in reports/gpu-nvimagecodec and in FOLDER, and leaves at most six files there. It begins with
cells of its own; time that is left goes to what the other calls have to do. Without --call all three run one after the
other. Without a GPU nothing is measured or written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
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
# Of six minutes: when no more cells begin, and how long the last one may take; the rest is for the table.
CALL_S, LAST_CELL_S = 320.0, 25.0
GIL, FREE_THREADED = f"{sys.version_info.major}.{sys.version_info.minor}", "3.13t"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--call", type=int, choices=(1, 2, 3), help="one call only")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for what it leaves")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each cell")
    parser.add_argument("--limit", type=float, default=CALL_S, help="seconds of a call after which no cell begins")
    options = parser.parse_args()
    gpu = require_gpu()
    if not (CARRY / "pure.txz").exists():
        raise GilprobeError("build/gpu-carry is missing", "Build it where there is a network: make gpu-carry")
    options.out.mkdir(parents=True, exist_ok=True)
    for call in (options.call,) if options.call else (1, 2, 3):
        with tempfile.TemporaryDirectory(prefix="gilprobe-gpu-") as work:
            Call(call, Path(work), options.out, gpu, options.seconds, options.limit).run()


class Call:
    """answers: of this and of earlier calls, by cell; `calibration` and `environment` are two more of them."""

    def __init__(self, number: int, work: Path, out: Path, gpu: dict[str, Any], seconds: float, limit_s: float) -> None:
        self.number, self.work, self.out, self.gpu, self.seconds = number, work, out, gpu, seconds
        self.end_s = time.monotonic() + limit_s
        self.environment = _environment(gpu)
        self.answers = _here(_read(HERE / "answers.jsonl") | _read(out / "answers.jsonl"), self.environment)
        self.python_t = ""

    def run(self) -> None:
        self._unpack()
        with (self.out / "answers.jsonl").open("w") as self.log:
            for key, answer in list(self.answers.items()):
                self._keep(key, answer)
            self._keep("environment", self.environment)
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
                deadline_s=self.end_s + LAST_CELL_S,
            )
            measured = {key: a for key, a in self.answers.items() if "|" in key}
            study.run(self._cells(), measured, lambda: time.monotonic() > self.end_s, self._keep)
            self.answers |= measured
        summary = {"environment": self.answers["environment"], "calibration": self.answers["calibration"]}
        summary |= summarize({key: answer for key, answer in self.answers.items() if "|" in key})
        summary["replay"] = summary["replay"] or bool(summary["calibration"].get("replay"))
        write_page(self.out, summary)
        _print(summary)

    def _cells(self) -> list[GpuCell]:
        free = [FREE_THREADED] if self.python_t else []
        parts = [
            # One decode on each backend.
            [GpuCell(GIL, MODES[0], backend, 1, False, 0) for backend in ("hybrid", "gpu", "hardware")],
            list(cells([GIL], MODES, ["hybrid"])),
            [*cells(free, MODES[:2], ["hybrid"]), *cells([GIL], MODES[:2], ["hardware"], rounds=2)],
        ]
        first = self.number - 1
        last = cells([GIL], MODES[:2], ["gpu"], rounds=2)
        return [*(cell for part in parts[first:] + parts[:first] for cell in part), *last]

    def _calibrate(self) -> dict[str, Any]:
        try:
            found = calibrate(sys.executable, self.work, os.environ | self._variables())
            if found["off"]:
                # The carried libcupti may be too new for the driver. torch's own, if it is there, fits it.
                carried = next((self.work / "site").glob("nvidia/*/lib/libcupti.so.1?"), None)
                if carried:
                    carried.unlink()
                    again = calibrate(sys.executable, self.work, os.environ | self._variables())
                    found = again | {"carried_libcupti": found["off"]}
        except (RuntimeError, OSError, GilprobeError, subprocess.TimeoutExpired) as error:
            return {"calibrated": None, "verdict": f"uncalibrated: the known-answer test did not run: {error}"}
        write_fixture([self.work / "spin-0", self.work / "spin-1"], self.out / "fixture.json.gz")
        return found

    def _unpack(self) -> None:
        generation = "13" if self.gpu["driver"] >= 13000 else "12"
        for name in (f"site-{generation}.txz", "pure.txz", "python-t.txz"):
            if (CARRY / name).exists():
                with tarfile.open(CARRY / name) as packed:
                    packed.extractall(self.work, filter="data")
        python_t = self.work / "python-t" / "bin" / "python3.13t"
        self.python_t = str(python_t) if python_t.exists() and _starts(python_t) else ""
        if "carried_libcupti" in self.answers.get("calibration", {}):
            for unfit in (self.work / "site").glob("nvidia/*/lib/libcupti.so.1?"):
                unfit.unlink()
        library = ROOT / "gilprobe" / "native" / "libgilprobe.so"
        if not library.exists():
            shutil.copy(CARRY / "libgilprobe.so", library)
        # For this process too: gilprobe's own needs may be missing here.
        sys.path.append(str(self.work / "pure"))

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


def _here(answers: dict[str, dict[str, Any]], environment: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Answers of another GPU, driver or processor are not gone on from."""
    same = ("gpu", "driver_supports_cuda", "cpu", "cores")
    before = answers.get("environment", environment)
    other = [name for name in same if name in before and before[name] != environment[name]]
    if other:
        print(f"Begun anew: the answers that are there are of another machine ({', '.join(other)}).", flush=True)
    return {} if other else answers


def _starts(python: Path) -> bool:
    """Built elsewhere, it may want a newer libc."""
    done = subprocess.run([python, "-c", "import ctypes, multiprocessing"], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"NO FREE-THREADED PYTHON: the carried one does not run here: {done.stderr.strip()[-200:]}", flush=True)
    return done.returncode == 0


def _environment(gpu: dict[str, Any]) -> dict[str, Any]:
    from reports.environment import described

    found = described() | {
        "python": platform.python_version(),
        "driver_supports_cuda": f"{gpu['driver'] // 1000}.{gpu['driver'] % 1000 // 10}",
        "gpu": gpu["name"],
    }
    del found["shared"]  # a machine of its own
    return found


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
    if "carried_libcupti" in summary["calibration"]:
        print(f"the carried libcupti does not serve here: {summary['calibration']['carried_libcupti']}")
    print()
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
