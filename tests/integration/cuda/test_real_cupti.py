"""NVIDIA's own libcupti and libcudart on a machine without a driver: rung E with its reason, for both generations."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cuda import build
from pythons import CACHE

from gilprobe.analysis import load
from gilprobe.launch.cuda import plan
from gilprobe.launch.interpreter import inspect
from gilprobe.launch.target import Options, environment
from gilprobe.recording import read_folder

CUPTI = CACHE / "cupti"
# As the driver would at the first CUDA call.
SCRIPT = """
import ctypes, os
print(ctypes.CDLL(os.environ["CUDA_INJECTION64_PATH"]).InitializeInjection())
"""


def library(requirement: str, name: str = "libcupti") -> Path:
    """Downloaded once into the user's cache. Skips where it cannot be had."""
    folder = CUPTI / requirement
    if not any(folder.glob(f"**/{name}.so.1?")):
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), requirement]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        wheels = list(folder.glob("*.whl"))
        if done.returncode or not wheels:
            pytest.skip(f"NO {requirement}: NVIDIA's own {name} was not tested: {done.stderr.strip()[-200:]}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(folder, [member for member in wheel.namelist() if f"/{name}.so." in member])
        wheels[0].unlink()
    return next(folder.glob(f"**/{name}.so.1?"))


@pytest.mark.parametrize(
    ("requirement", "says"),
    [("nvidia-cuda-cupti==13.5.25", "error 999"), ("nvidia-cuda-cupti-cu12==12.9.79", "error 15")],
)
def test_no_driver_is_unavailable_with_the_reason(tmp_path: Path, requirement: str, says: str) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("THIS MACHINE HAS AN NVIDIA DRIVER: its absence was not tested")
    path = library(requirement)
    variables = environment(tmp_path, Options(cuda=True, cupti=str(path)))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=variables, capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout == "1\n"
    profile = load(tmp_path)
    (process,) = profile.processes
    assert process.end == "exit"
    assert profile.cuda["rung"] == "E" and profile.cuda["evidence"] == "unavailable" and not profile.cuda["replay"]
    assert says in profile.cuda["reason"] and "driver" in profile.cuda["reason"]
    assert "contexts" not in profile.cuda and "gaps" not in profile.cuda


# What a script sees of its own is the same with and without; then as the driver does at the first CUDA call.
UNDISTURBED = """
import ctypes, os, signal, threading
library = os.environ["CUDA_INJECTION64_PATH"]
before = signal.getsignal(signal.SIGINT), threading.active_count(), ctypes.get_errno()
BROUGHT
assert ctypes.CDLL(library).InitializeInjection() == 1
assert (signal.getsignal(signal.SIGINT), threading.active_count(), ctypes.get_errno()) == before
print(sorted({line.split()[-1] for line in open("/proc/self/maps") if "libcupti.so" in line}))
raise SystemExit(3)
"""


@pytest.mark.parametrize("brings", ["", "nvidia-cuda-cupti==13.5.25", "nvidia-cuda-cupti-cu12==12.9.79"],
                         ids=["neither", "13", "12"])  # fmt: skip
def test_with_two_versions_there_only_one_is_loaded_and_the_programs_own_goes_first(
    tmp_path: Path, brings: str
) -> None:
    newest, older = library("nvidia-cuda-cupti==13.5.25"), library("nvidia-cuda-cupti-cu12==12.9.79")
    own = library(brings) if brings else None
    script = UNDISTURBED.replace("BROUGHT", f"ctypes.CDLL({str(own)!r})" if own else "")
    folders = os.pathsep.join(str(path.parent) for path in (newest, older))
    variables = environment(tmp_path, Options(cuda=True)) | {"LD_LIBRARY_PATH": folders}
    done = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (3, f"{[str(own or newest)]}\n", "")
    # 13 answers 999 even when it is asked for its version.
    (state,) = [state for recording in read_folder(tmp_path) for state in recording.cuda.states]
    assert (state["version"], state["error"]) == ((28, 15) if own == older else (0, 999))
    cuda = load(tmp_path).cuda
    assert cuda["rung"] == "E" and "driver" in cuda["reason"] and cuda["evidence"] == "unavailable"


@pytest.mark.parametrize(("driver", "generation"), [("12090", "12"), ("13000", "13"), ("13010", "13")])
def test_of_two_versions_among_the_packages_the_drivers_own_generation_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str, generation: str
) -> None:
    fake = build(tmp_path)
    for requirement in ("nvidia-cuda-cupti-cu12==12.9.79", "nvidia-cuda-cupti==13.5.25"):
        path = library(requirement)
        place = tmp_path / "site" / "nvidia" / requirement.partition("=")[0] / "lib"
        place.mkdir(parents=True)
        (place / path.name).symlink_to(path)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(fake.folder))
    monkeypatch.setenv("FAKE_CUDA_VERSION", driver)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    interpreter = inspect(str(Path(sys.executable).resolve()))
    made = plan("auto", interpreter)
    assert made.source == "cupti" and made.libcupti.endswith(f"libcupti.so.{generation}")
    # Where packages bring none, of the system's.
    monkeypatch.setenv("PYTHONPATH", "")
    if not any(Path("/usr/local/cuda/extras/CUPTI/lib64").glob("libcupti.so.1?")):
        assert plan("cupti", interpreter).libcupti == f"libcupti.so.{generation}"


@pytest.mark.parametrize("requirement", ["nvidia-cuda-runtime==13.0.96", "nvidia-cuda-runtime-cu12==12.9.79"])
def test_a_program_whose_runtime_answers_35_runs_as_ever_and_has_no_figure(tmp_path: Path, requirement: str) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("THIS MACHINE HAS AN NVIDIA DRIVER: its absence was not tested")
    runtime = library(requirement, "libcudart")
    counts = "cudaGetDeviceCount(ctypes.byref(ctypes.c_int()))"
    script = f"import ctypes; raise SystemExit(ctypes.CDLL({str(runtime)!r}).{counts})"
    done = subprocess.run(
        [sys.executable, "-m", "gilprobe", "profile", "--cuda", "-o", tmp_path / "r", "-c", script],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 35 and not done.stdout  # cudaErrorInsufficientDriver: as without gilprobe
    assert "CUDA [unavailable]: there is no NVIDIA driver here" in done.stderr
    cuda = load(tmp_path / "r").cuda
    assert cuda["rung"] == "E" and set(cuda["figures"].values()) == {"unavailable"} and "contexts" not in cuda
