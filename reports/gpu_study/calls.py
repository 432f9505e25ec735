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
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gilprobe.errors import GilprobeError
from gilprobe.loader.study.bounded import kill_with, started
from gilprobe.loader.study.gpu import MODES, GpuCell, GpuStudy, cells, require_gpu
from gilprobe.loader.study.gpu_summary import summarize
from reports.environment import ROOT
from reports.gpu_study.carry import CARRY
from reports.gpu_study.deadline import until
from reports.gpu_study.fixture import write_fixture
from reports.gpu_study.page import print_table, write_page
from reports.gpu_study.unpacked import Unpacked

HERE = ROOT / "reports" / "gpu-nvimagecodec"
# Of six minutes, from the first line of Python on: when no more cells begin, how long the last one may take, and when
# whatever is still running is broken off. The rest is for ending it and for the table.
CALL_S, LAST_CELL_S, BROKEN_OFF_S = 305.0, 20.0, 4.0
CALIBRATION_S, SOLO_S, TRY_S = 110.0, 30.0, 40.0
GIL, FREE_THREADED = f"{sys.version_info.major}.{sys.version_info.minor}", "3.13t"
MARK = "GPU_STUDY_WORK"  # in the environment of all that a call starts
# A GPU that no process has open is shut down, and takes seconds to start again. It dies with us: PR_SET_PDEATHSIG.
KEEPER = """
import ctypes, time
ctypes.CDLL(None).prctl(1, 9)
ctypes.CDLL("libcuda.so.1").cuInit(0)
time.sleep(1000)
"""


def main(begun_s: float) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--call", type=int, choices=(1, 2, 3), help="one call only")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for what it leaves")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each cell")
    parser.add_argument("--limit", type=float, default=CALL_S, help="seconds of a call after which no cell begins")
    parser.add_argument("--cells", type=int, default=sys.maxsize, help="no more cells than these a call, to rehearse")
    options = parser.parse_args()
    gpu = require_gpu()
    if not (CARRY / "pure.txz").exists():
        raise GilprobeError("build/gpu-carry is missing", "Build it where there is a network: make gpu-carry")
    options.out.mkdir(parents=True, exist_ok=True)
    for call in (options.call,) if options.call else (1, 2, 3):
        with tempfile.TemporaryDirectory(prefix="gilprobe-gpu-", ignore_cleanup_errors=True) as work:
            Call(call, Path(work), options.out, gpu, options.seconds, begun_s + options.limit).run(options.cells)
        begun_s = time.monotonic()


class Call:
    """answers: of this and of earlier calls, by cell; `calibration` and `environment` are two more of them."""

    def __init__(self, number: int, work: Path, out: Path, gpu: dict[str, Any], seconds: float, end_s: float) -> None:
        self.number, self.work, self.out, self.gpu, self.seconds, self.end_s = number, work, out, gpu, seconds, end_s
        self.environment = _environment(gpu)
        self.answers = _here(_read(HERE / "answers.jsonl") | _read(out / "answers.jsonl"), self.environment)

    def run(self, most_cells: int) -> None:
        with (self.out / "answers.jsonl").open("w") as self.log:
            for key, answer in list(self.answers.items()):
                self._keep(key, answer, again=True)
            self._keep("environment", self.environment, again=True)
            with until(self.end_s + LAST_CELL_S + BROKEN_OFF_S):
                self._measure(most_cells)
            kill_with(f"{MARK}={self.work}")
        unknown = {"calibrated": None, "verdict": "uncalibrated: the known-answer test did not run"}
        calibration = self.answers.get("calibration", unknown)
        summary = {"environment": self.answers["environment"], "calibration": calibration}
        summary |= summarize({key: answer for key, answer in self.answers.items() if "|" in key})
        summary["replay"] = summary["replay"] or bool(calibration.get("replay"))
        write_page(self.out, summary)
        print_table(summary)

    def _measure(self, most_cells: int) -> None:
        self.unpacked = Unpacked(self.work, self.gpu["driver"])
        with ExitStack() as stack:
            stack.enter_context(started([sys.executable, "-c", KEEPER], os.environ | {MARK: str(self.work)}))
            if "error" in self.answers.get("calibration", {"error": ""}):
                self._keep("calibration", self._calibrate())
            newest = next(iter(self.unpacked.carried_cupti), None)
            self.unpacked.use_cupti(self.answers["calibration"].get("carried_cupti", newest))
            pythons = {GIL: sys.executable}
            if self.unpacked.python_t:
                pythons[FREE_THREADED] = self.unpacked.python_t
            study = GpuStudy(
                pythons,
                CARRY / "pictures.pickle",
                self.work,
                environment=self._variables(),
                calibrated=self.answers["calibration"].get("calibrated"),
                source="nvml" if self.answers["calibration"].get("off") else "cupti",
                seconds=self.seconds,
                deadline_s=self.end_s + LAST_CELL_S,
            )
            measured = {key: a for key, a in self.answers.items() if "|" in key}
            begun = len(measured)
            study.run(
                self._cells(),
                measured,
                lambda: time.monotonic() > self.end_s or len(measured) - begun >= most_cells,
                self._keep,
            )

    def _cells(self) -> list[GpuCell]:
        free = [FREE_THREADED] if self.unpacked.python_t else []
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
        """With each libcupti that is carried, then the machine's own, until one records the GPU's switches: a newer one
        than the driver may not start. error: where the test did not run at all, which the next call tries again."""
        from reports.gpu_study.calibration import alone, calibrate

        end_s = min(self.end_s, time.monotonic() + CALIBRATION_S)
        best: tuple[int, dict[str, Any]] | None = None
        said: dict[str, str] = {}
        environment = os.environ | self._variables()
        try:
            solo = alone(sys.executable, environment, min(SOLO_S, end_s - time.monotonic()))
        except (RuntimeError, OSError) as error:
            return _not_calibrated(f"the kernel does not run: {error}")
        for number, cupti in enumerate([*self.unpacked.carried_cupti, None]):
            if best and time.monotonic() + TRY_S > end_s:
                break
            self.unpacked.use_cupti(cupti)
            folder = self.work / f"calibration-{number}"
            try:
                found = calibrate(
                    sys.executable, folder, environment, solo, min(TRY_S, max(1.0, end_s - time.monotonic()))
                )
            except (RuntimeError, OSError, ValueError, GilprobeError) as error:
                said[cupti or "the machine's own"] = str(error)
                continue
            worth = 0 if found["off"] else 1 if found["calibrated"] is None else 2 if not found["calibrated"] else 3
            if found["off"]:
                said[cupti or "the machine's own"] = found["off"]
            if best is None or worth > best[0]:
                best = worth, found | {"carried_cupti": cupti}
                write_fixture(sorted(folder.glob("spin-*")), self.out / "fixture.json.gz")
            if worth >= 2:
                break
        if best is None:
            return _not_calibrated("; ".join(f"{name}: {why}" for name, why in said.items()))
        return best[1] | {"cupti_refused": said}

    def _variables(self) -> dict[str, str]:
        paths = [ROOT, self.work / "site", self.work / "pure"]
        existing = os.environ.get("PYTHONPATH")
        return {
            MARK: str(self.work),
            "PYTHONPATH": os.pathsep.join([*map(str, paths), *([existing] if existing else [])]),
            "PYTHONSAFEPATH": "1",
        }

    def _keep(self, key: str, answer: dict[str, Any], again: bool = False) -> None:
        self.answers[key] = answer
        self.log.write(json.dumps({"key": key, "answer": answer}) + "\n")
        self.log.flush()
        if again:
            return
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


def _not_calibrated(why: str) -> dict[str, Any]:
    return {"calibrated": None, "verdict": f"uncalibrated: the known-answer test did not run: {why}", "error": why}


def _environment(gpu: dict[str, Any]) -> dict[str, Any]:
    from reports.environment import described

    found = described() | {
        "python": platform.python_version(),
        "driver_supports_cuda": f"{gpu['driver'] // 1000}.{gpu['driver'] % 1000 // 10}",
        "gpu": gpu["name"],
    }
    del found["shared"]  # a machine of its own
    return found
