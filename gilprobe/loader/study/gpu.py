"""The GPU study: threads, processes, processes under MPS; untraced for speed, traced for what the GPU did."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gilprobe.errors import GilprobeError
from gilprobe.loader.study import gpu_cell
from gilprobe.loader.study.bounded import answer, answer_of, kill_session, kill_with, started

MODES = ("threads", "processes", "processes under MPS")
WORKERS = (1, 4, 8, 16)
BATCH = 8
DRIVER_S = 60
CELL_S = 45  # 16 processes that are started, decode for two seconds and end; and one report
MPS = "nvidia-cuda-mps-control"
MPS_START_S, MPS_END_S = 10, 4
HOPELESS = 2  # failures, and no success, after which cells of a kind are left for another call


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
    """Untraced rounds interleave the modes, either order by turns; the traced ones come after the first round, so that
    a study that is broken off has something of each."""
    for number, traced in [(0, False), (0, True), *((number, False) for number in range(1, rounds))]:
        for build in builds:
            for backend in backends:
                for workers in WORKERS:
                    for mode in modes if number % 2 == 0 else reversed(modes):
                        yield GpuCell(build, mode, backend, workers, traced, number)


def require_gpu() -> dict[str, Any]:
    """Driver, number of GPUs and the first one's name. Raises GilprobeError where there is none."""
    code = (
        "import ctypes, json; c = ctypes.CDLL('libcuda.so.1'); v, n = ctypes.c_int(), ctypes.c_int(); "
        "e = c.cuInit(0); c.cuDriverGetVersion(ctypes.byref(v)); c.cuDeviceGetCount(ctypes.byref(n)); "
        "name = ctypes.create_string_buffer(96); c.cuDeviceGetName(name, 96, 0); "
        "print(json.dumps({'error': e, 'driver': v.value, 'devices': n.value, 'name': name.value.decode()}))"
    )
    found = answer_of([sys.executable, "-c", code], os.environ, DRIVER_S)
    if "devices" not in found:
        raise GilprobeError(
            f"there is no NVIDIA driver here, so nothing was measured ({found['error'].splitlines()[-1]})",
            "Run it where there is a GPU.",
        )
    if found["error"] or not found["devices"]:
        raise GilprobeError(
            f"the NVIDIA driver gives no GPU (error {found['error']}), so nothing was measured",
            "Run it where there is a GPU.",
        )
    return found


@dataclass(frozen=True)
class GpuStudy:
    """pythons: by build. recordings: for traced cells. calibrated: by the known-answer test. source: of traced cells,
    cupti or nvml. deadline_s: on time.monotonic, when a cell that has not ended is ended."""

    pythons: dict[str, str]
    pictures: Path
    recordings: Path
    environment: dict[str, str] | None = None
    calibrated: bool | None = None
    source: str = "cupti"
    seconds: float = 2.0
    deadline_s: float = float("inf")

    def run(
        self,
        wanted: Sequence[GpuCell],
        answers: dict[str, dict[str, Any]],
        out_of_time: Callable[[], bool],
        keep: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """Measures what `answers` lacks, then what failed before, until there is no more time; `keep` is told each
        answer at once. Of what fails again and again no more is tried."""
        failed = [cell for cell in wanted if "error" in answers.get(cell.key, {})]
        missing = [cell for cell in dict.fromkeys(wanted) if cell.key not in answers]
        tried: dict[tuple[str, str, str], list[bool]] = {}
        for cell in [*missing, *dict.fromkeys(failed)]:
            if out_of_time():
                return
            good = tried.setdefault((cell.build, cell.backend, cell.mode), [])
            if len(good) >= HOPELESS and not any(good):
                continue
            answers[cell.key] = self.measure(cell)
            good.append("error" not in answers[cell.key])
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
                    return asdict(cell) | answer_of([python, *script], environment, self._left_s())
                folder = self.recordings / cell.key.replace("|", "-").replace(" ", "-")
                shutil.rmtree(folder, ignore_errors=True)
                command = [sys.executable, "-m", "gilprobe", "profile", "-q", "--rate", "0", "-o", str(folder)]
                source = f"--cuda={'nvml' if cell.backend == 'hardware' else self.source}"
                command += [source, "--python", python, *script]
                answer = asdict(cell) | answer_of(command, environment, self._left_s())
        except GilprobeError as error:
            return asdict(cell) | {"error": error.message}
        if "error" in answer:
            return answer
        told = {"calibrated": self.calibrated, "window_ns": answer.get("window_ns")}
        return answer | {"cuda": cuda_report(folder, told, environment, self._left_s())}

    def _left_s(self) -> float:
        return max(1.0, min(CELL_S, self.deadline_s - time.monotonic()))


def cuda_report(folder: Path, told: dict[str, Any], environment: dict[str, str], limit_s: float) -> dict[str, Any]:
    """The JSON report's `cuda` of a recording. told: what cuda.json shall say besides, see analysis.cuda.cuda_of.

    Start-up is outside the window: between the first decode of one worker and of the next the GPU has nothing to do.
    """
    ladder = folder / "cuda.json"
    with suppress(OSError, ValueError):
        ladder.write_text(json.dumps(json.loads(ladder.read_text()) | told))
    output = folder / "report.json"
    command = [sys.executable, "-m", "gilprobe", "report", str(folder), "-f", "json", "--force", "-o", str(output)]
    with started(command, environment) as child:
        failed = answer(child, limit_s).get("error", "it said nothing")
    try:
        cuda: dict[str, Any] = json.loads(output.read_text())["cuda"]
    except (OSError, ValueError, KeyError):
        return {"rung": "E", "reason": f"no report: {failed}"}
    return cuda


@contextmanager
def _nothing() -> Iterator[dict[str, str]]:
    yield {}


@contextmanager
def mps() -> Iterator[dict[str, str]]:
    """MPS for our own processes: a daemon with pipes of its own. The GPU's compute mode is left as it is."""
    if shutil.which(MPS) is None:
        raise GilprobeError(f"{MPS} is not installed", "MPS is left out.")
    with tempfile.TemporaryDirectory(prefix="gilprobe-mps-", ignore_cleanup_errors=True) as folder:
        variables = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        environment = os.environ | variables
        # In the foreground, so that it can be ended whatever becomes of it. No pipe: its server would keep it open.
        daemon = subprocess.Popen(
            [MPS, "-f"], env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait_for_mps(daemon, Path(folder))
            yield variables
        finally:
            with suppress(subprocess.TimeoutExpired, OSError):
                subprocess.run([MPS], input="quit\n", text=True, env=environment, timeout=MPS_END_S, check=False,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
                daemon.wait(MPS_END_S)
            kill_session(daemon.pid)
            kill_with(f"CUDA_MPS_PIPE_DIRECTORY={folder}")  # its server, should it be in a session of its own
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(MPS_END_S)


def _wait_for_mps(daemon: subprocess.Popen[bytes], folder: Path) -> None:
    """Raises GilprobeError where it ends, or opens no pipe in time."""
    end = time.monotonic() + MPS_START_S
    while not (folder / "control").exists():
        if daemon.poll() is not None or time.monotonic() > end:
            log = folder / "control.log"
            said = log.read_text(errors="replace").strip()[-200:] if log.exists() else f"status {daemon.poll()}"
            raise GilprobeError(f"MPS does not start: {said}", "MPS is left out.")
        time.sleep(0.05)
