"""The GPU study: threads, processes, processes under MPS; untraced for speed, traced for what the GPU did."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gilprobe.errors import GilprobeError
from gilprobe.loader.study import gpu_cell

MODES = ("threads", "processes", "processes under MPS")
WORKERS = (1, 4, 8, 16)
BATCH = 8
CELL_S = 150
MPS = "nvidia-cuda-mps-control"


@dataclass(frozen=True)
class GpuCell:
    """traced: recorded by gilprobe profile. Speeds are quoted from untraced cells only."""

    build: str
    mode: str
    backend: str
    workers: int
    traced: bool
    round: int

    @property
    def key(self) -> str:
        kind = "traced" if self.traced else "untraced"
        return f"{self.build}|{self.mode}|{self.backend}|{self.workers}|{kind}|{self.round}"


def cells(builds: Sequence[str], modes: Sequence[str], backends: Sequence[str], rounds: int = 3) -> Iterator[GpuCell]:
    """Untraced rounds interleave the modes, either order by turns; the traced ones come last."""
    for number in range(rounds):
        for build in builds:
            for backend in backends:
                for workers in WORKERS:
                    for mode in modes if number % 2 == 0 else reversed(modes):
                        yield GpuCell(build, mode, backend, workers, False, number)
    for build in builds:
        for backend in backends:
            for workers in WORKERS:
                for mode in modes:
                    yield GpuCell(build, mode, backend, workers, True, 0)


def require_gpu() -> dict[str, Any]:
    """Driver and number of GPUs. Raises GilprobeError where there is none."""
    code = (
        "import ctypes, json; c = ctypes.CDLL('libcuda.so.1'); v, n = ctypes.c_int(), ctypes.c_int(); "
        "e = c.cuInit(0); c.cuDriverGetVersion(ctypes.byref(v)); c.cuDeviceGetCount(ctypes.byref(n)); "
        "print(json.dumps({'error': e, 'driver': v.value, 'devices': n.value}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 and done.stdout else {"error": None}
    if found["error"] is None:
        raise GilprobeError("there is no NVIDIA driver here, so nothing was measured", "Run it where there is a GPU.")
    if found["error"] or not found["devices"]:
        raise GilprobeError(
            f"the NVIDIA driver gives no GPU (error {found['error']}), so nothing was measured",
            "Run it where there is a GPU.",
        )
    return found


@dataclass(frozen=True)
class GpuStudy:
    """pythons: by build. recordings: for traced cells. calibrated: by the known-answer test."""

    pythons: dict[str, str]
    pictures: Path
    recordings: Path
    environment: dict[str, str] | None = None
    calibrated: bool | None = None
    seconds: float = 2.0

    def run(
        self,
        wanted: Sequence[GpuCell],
        answers: dict[str, dict[str, Any]],
        out_of_time: Callable[[], bool],
        keep: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """Measures what `answers` lacks, until there is no more time; `keep` is told each answer at once."""
        for cell in wanted:
            if cell.key in answers:
                continue
            if out_of_time():
                return
            answers[cell.key] = self.measure(cell)
            keep(cell.key, answers[cell.key])

    def measure(self, cell: GpuCell) -> dict[str, Any]:
        under_mps = cell.mode == MODES[2]
        request = {
            "mode": "threads" if cell.mode == MODES[0] else "processes", "workers": cell.workers,
            "backend": cell.backend, "seconds": self.seconds, "batch": BATCH, "pictures": str(self.pictures),
        }  # fmt: skip
        script = [gpu_cell.__file__, json.dumps(request)]
        python = self.pythons[cell.build]
        try:
            with mps() if under_mps else _nothing() as variables:
                environment = {**os.environ, **(self.environment or {}), **variables}
                if not cell.traced:
                    return asdict(cell) | _answer([python, *script], environment)
                folder = self.recordings / cell.key.replace("|", "-").replace(" ", "-")
                shutil.rmtree(folder, ignore_errors=True)
                command = [sys.executable, "-m", "gilprobe", "profile", "-q", "--rate", "0", "-o", str(folder)]
                source = "--cuda=nvml" if cell.backend == "hardware" else "--cuda=cupti"
                answer = asdict(cell) | _answer([*command, source, "--python", python, *script], environment)
                return answer | {"cuda": cuda_report(folder, self.calibrated, environment)}
        except GilprobeError as error:
            return asdict(cell) | {"error": error.message}


def _answer(command: Sequence[str], environment: dict[str, str]) -> dict[str, Any]:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=CELL_S, env=environment, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"error": f"it took longer than {CELL_S} s"}
    try:
        read: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return {"error": f"it ended with status {done.returncode}: {done.stderr.strip()[-300:]}"}
    return read


def cuda_report(folder: Path, calibrated: bool | None, environment: dict[str, str]) -> dict[str, Any]:
    """The JSON report's `cuda` of a recording, told beforehand what the known-answer test found."""
    ladder = folder / "cuda.json"
    if ladder.exists():
        ladder.write_text(json.dumps(json.loads(ladder.read_text()) | {"calibrated": calibrated}))
    command = [sys.executable, "-m", "gilprobe", "report", str(folder), "-f", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CELL_S, env=environment, check=False)
    try:
        cuda: dict[str, Any] = json.loads(done.stdout)["cuda"]
    except (ValueError, KeyError):
        return {"rung": "E", "reason": f"no report: {done.stderr.strip()[-300:]}"}
    return cuda


@contextmanager
def _nothing() -> Iterator[dict[str, str]]:
    yield {}


@contextmanager
def mps() -> Iterator[dict[str, str]]:
    """MPS for our own processes: a daemon with pipes of its own. The GPU's compute mode is left as it is."""
    if shutil.which(MPS) is None:
        raise GilprobeError(f"{MPS} is not installed", "MPS is left out.")
    with tempfile.TemporaryDirectory(prefix="gilprobe-mps-") as folder:
        variables = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        environment = os.environ | variables
        started = subprocess.run([MPS, "-d"], env=environment, capture_output=True, text=True, timeout=30, check=False)
        if started.returncode:
            raise GilprobeError(f"MPS does not start: {started.stderr.strip()[-200:]}", "MPS is left out.")
        try:
            yield variables
        finally:
            subprocess.run([MPS], input="quit\n", text=True, env=environment, timeout=30, check=False)
