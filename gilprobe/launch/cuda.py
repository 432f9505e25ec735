"""Which rung of the CUDA ladder this machine allows: told by a process of its own, before the script starts."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gilprobe.errors import UsageError
from gilprobe.launch.interpreter import Interpreter
from gilprobe.launch.target import Target

CHOICES = ("auto", "cupti", "torch", "nvml", "off")
INJECTION = "CUDA_INJECTION64_PATH"
LADDER = "cuda.json"
PROBE_S = 60

# Runs in the script's interpreter: its packages may bring libcupti; else conda's folder or the CUDA toolkit. Answers
# with one line of JSON, the last it prints.
PROBE = """
import ctypes, glob, json, os, sys
answer = {"libcupti": [], "torch": False}
try:
    driver = ctypes.CDLL("libcuda.so.1")
    answer["cuInit"] = driver.cuInit(0)
    version, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    answer["driver"] = version.value
    if answer["cuInit"] == 0:
        driver.cuDeviceGetCount(ctypes.byref(count))
    answer["devices"] = count.value
except (OSError, AttributeError) as error:
    answer["no_driver"] = str(error)
for folder in sys.path:
    answer["libcupti"] += sorted(glob.glob(os.path.join(folder, "nvidia", "*", "lib", "libcupti.so.1?")), reverse=True)
    answer["libcupti"] += sorted(glob.glob(os.path.join(folder, "torch", "lib", "libcupti*.so.1?")), reverse=True)
    answer["torch"] = answer["torch"] or os.path.isfile(os.path.join(folder, "torch", "lib", "libtorch_cuda.so"))
for folder in (sys.prefix + "/lib", "/usr/local/cuda/extras/CUPTI/lib64", "/opt/cuda/extras/CUPTI/lib64"):
    answer["libcupti"] += sorted(glob.glob(os.path.join(folder, "libcupti.so.1?")), reverse=True)
try:
    ctypes.CDLL("libnvidia-ml.so.1")
    answer["nvml"] = True
except OSError:
    answer["nvml"] = False
print(json.dumps(answer))
"""


@dataclass(frozen=True, slots=True)
class CudaPlan:
    """source: cupti, torch, nvml or empty. libcupti: its path or name, or empty where the recorder shall look for one.

    found: what the probe saw, and the reason where the source is empty; kept beside the recordings.
    """

    source: str = ""
    libcupti: str = ""
    found: dict[str, Any] = field(default_factory=dict)

    def write(self, recording: Path) -> None:
        if self.found:
            (recording / LADDER).write_text(json.dumps(self.found, indent=1) + "\n")


def plan(wanted: str, interpreter: Interpreter) -> CudaPlan:
    """Raises UsageError for a word that is none of CHOICES."""
    if wanted not in CHOICES:
        raise UsageError(f"--cuda={wanted} is not known", f"Give one of {', '.join(CHOICES)}.")
    if wanted == "off":
        return CudaPlan()
    seen = _probe(interpreter)
    found: dict[str, Any] = {"wanted": wanted, "probe": seen, "reason": ""}
    libcupti = next(iter(_fitting(seen)), "")
    reason = _no_gpu(seen)
    if reason:
        found["reason"] = reason
    elif wanted in ("auto", "cupti"):
        other = os.environ.get(INJECTION)
        if other:
            reason = f"another tool is injected into CUDA programs ({INJECTION}={other})"
        elif libcupti or wanted == "cupti":
            return CudaPlan("cupti", libcupti or _usual(seen), found)
        else:
            reason = "no libcupti is among the interpreter's packages, nor in a CUDA toolkit"
            if not (seen.get("torch") or seen.get("nvml")):
                return CudaPlan("cupti", _usual(seen), found)  # the system may have one
    # torch's profiler changes what runs in the script's process, so only on demand.
    if not found["reason"] and wanted == "torch":
        if seen.get("torch"):
            return CudaPlan("torch", "", found)
        reason = f"{interpreter.path} has no torch built with CUDA"
    if not found["reason"] and wanted in ("auto", "nvml"):
        if seen.get("nvml"):
            return CudaPlan("nvml", "", found | {"reason": reason})
        reason = reason or "libnvidia-ml.so.1 is missing"
    return CudaPlan("", "", found | {"reason": found["reason"] or reason})


def under_torch_profiler(target: Target, recording: Path) -> Target:
    """The same target, run by a small program of ours within torch.profiler (gilprobe/record/torch_profiler.py)."""
    runner = Path(__file__).parent.parent / "record" / "torch_profiler.py"
    return Target(target.name, (str(runner), str(recording.absolute()), *target.arguments))


def _probe(interpreter: Interpreter) -> dict[str, Any]:
    environment = {key: value for key, value in os.environ.items() if key != INJECTION}
    try:
        done = subprocess.run(
            [str(interpreter.path), "-c", PROBE],
            capture_output=True, text=True, timeout=PROBE_S, env=environment, check=False,
        )  # fmt: skip
        read = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return {"no_driver": f"the probe failed: {type(error).__name__}"}
    return read if isinstance(read, dict) else {}


def _no_gpu(seen: dict[str, Any]) -> str:
    if "no_driver" in seen:
        return f"there is no NVIDIA driver here ({seen['no_driver']})"
    if seen.get("cuInit"):
        return f"the NVIDIA driver does not start: cuInit gives error {seen['cuInit']}"
    return "" if seen.get("devices") else "the NVIDIA driver sees no GPU"


def _fitting(seen: dict[str, Any]) -> Iterator[str]:
    """The newest first, but none of a newer CUDA generation than the driver's: it could not be started."""
    generation = int(seen.get("driver", 0)) // 1000
    paths = [path for path in seen.get("libcupti", ()) if _generation(path) <= generation]
    yield from sorted(paths, key=_generation, reverse=True)


def _usual(seen: dict[str, Any]) -> str:
    """The system may have one of each generation: that of the driver is sought first."""
    generation = int(seen.get("driver", 0)) // 1000
    return f"libcupti.so.{generation}" if generation in (12, 13) else ""


def _generation(path: str) -> int:
    digits = path.rpartition(".")[2]
    return int(digits) if digits.isdigit() else 0
