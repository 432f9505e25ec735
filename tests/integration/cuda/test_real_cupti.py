"""NVIDIA's own libcupti on a machine without a driver: rung E with its reason, for both generations."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gilprobe" / "cupti"
# As the driver would at the first CUDA call.
SCRIPT = """
import ctypes, os
print(ctypes.CDLL(os.environ["CUDA_INJECTION64_PATH"]).InitializeInjection())
"""


def library(requirement: str) -> Path:
    """Downloaded once into the user's cache. Skips where it cannot be had."""
    folder = CACHE / requirement
    if not any(folder.glob("**/libcupti.so.1?")):
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), requirement]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        wheels = list(folder.glob("*.whl"))
        if done.returncode or not wheels:
            pytest.skip(f"NO {requirement}: NVIDIA's own libcupti was not tested: {done.stderr.strip()[-200:]}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(folder, [name for name in wheel.namelist() if "/libcupti.so." in name])
        wheels[0].unlink()
    return next(folder.glob("**/libcupti.so.1?"))


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
        [sys.executable, "-c", SCRIPT], env=variables, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "1\n"
    profile = load(tmp_path)
    (process,) = profile.processes
    assert process.end == "exit"
    assert profile.cuda["rung"] == "E" and profile.cuda["evidence"] == "unavailable" and not profile.cuda["replay"]
    assert says in profile.cuda["reason"] and "driver" in profile.cuda["reason"]
    assert "contexts" not in profile.cuda and "gaps" not in profile.cuda
