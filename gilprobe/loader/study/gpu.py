"""The GPU study: threads, processes, processes under MPS; untraced for speed, traced for what the GPU did."""

from __future__ import annotations

import json
import os
import shutil
import signal
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
    """pythons: by build. recordings: for traced cells. calibrated: by the known-answer test. deadline_s: on
    time.monotonic, when a cell that has not ended is ended."""

    pythons: dict[str, str]
    pictures: Path
    recordings: Path
    environment: dict[str, str] | None = None
    calibrated: bool | None = None
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
        answer at once."""
        failed = [cell for cell in wanted if "error" in answers.get(cell.key, {})]
        missing = [cell for cell in dict.fromkeys(wanted) if cell.key not in answers]
        for cell in [*missing, *dict.fromkeys(failed)]:
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
                    return asdict(cell) | self._answer([python, *script], environment)
                folder = self.recordings / cell.key.replace("|", "-").replace(" ", "-")
                shutil.rmtree(folder, ignore_errors=True)
                command = [sys.executable, "-m", "gilprobe", "profile", "-q", "--rate", "0", "-o", str(folder)]
                source = "--cuda=nvml" if cell.backend == "hardware" else "--cuda=cupti"
                answer = asdict(cell) | self._answer([*command, source, "--python", python, *script], environment)
                return answer | {"cuda": cuda_report(folder, self.calibrated, environment)}
        except GilprobeError as error:
            return asdict(cell) | {"error": error.message}

    def _answer(self, command: Sequence[str], environment: dict[str, str]) -> dict[str, Any]:
        limit_s = max(1.0, min(CELL_S, self.deadline_s - time.monotonic()))
        # A session of its own: workers that a broken-off cell left behind would disturb the next one.
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        ) as child:
            try:
                out, errors = child.communicate(timeout=limit_s)
            except subprocess.TimeoutExpired:
                return {"error": f"it was ended after {limit_s:.0f} s"}
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
        try:
            read: dict[str, Any] = json.loads(out.splitlines()[-1])
        except (ValueError, IndexError):
            return {"error": f"it ended with status {child.returncode}: {errors.strip()[-300:]}"}
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
                subprocess.run([MPS], input="quit\n", text=True, env=environment, timeout=10, check=False,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
                daemon.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()


def _wait_for_mps(daemon: subprocess.Popen[bytes], folder: Path) -> None:
    """Raises GilprobeError where it ends, or opens no pipe within ten seconds."""
    end = time.monotonic() + 10
    while not (folder / "control").exists():
        if daemon.poll() is not None or time.monotonic() > end:
            log = folder / "control.log"
            said = log.read_text(errors="replace").strip()[-200:] if log.exists() else f"status {daemon.poll()}"
            raise GilprobeError(f"MPS does not start: {said}", "MPS is left out.")
        time.sleep(0.05)
