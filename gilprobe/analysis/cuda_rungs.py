"""On which rung of the ladder a recording stands, why not higher, and what that rung cannot see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gilprobe.recording import Recording
from gilprobe.recording.cuda_schema import CudaStep

WITH_SWITCHES = 130100
UNKNOWN_DRIVER = 999

ERRORS = {
    15: "CUPTI could not be initialised: there is no NVIDIA driver, or none that it can use (error 15)",
    27: "the GPU or its driver does not support it (error 27)",
    33: "the GPU is virtualised without it (error 33)",
    35: "profiling needs privileges that this user has not (error 35: NVreg_RestrictProfilingToAdminUsers)",
    39: "another CUPTI subscriber is there, such as torch.profiler or Nsight (error 39)",
    40: "the virtual GPU gives no privileges to profile (error 40)",
    43: "the GPU is divided by MIG (error 43)",
    999: "CUPTI answers with error 999, as it does to everything where there is no driver",
}

CANNOT_SEE = {
    "A": (
        "switches of the copy and NVJPG engines",
        "contexts of programs that were not recorded",
        "whether a kernel was switched out between its start and end",
    ),
    "B": (
        "the GPU's own context switches: changes of owner are estimated from the order of kernels and copies",
        "whether a kernel was switched out between its start and end",
        "contexts of programs that were not recorded",
    ),
    "C": (
        "the life of contexts, and which thread made which current",
        "the GPU's own context switches: changes of owner are estimated from the order of kernels",
        "child processes of the script",
    ),
    "D": ("contexts, their order and their switches", "kernels and copies", "anything shorter than a sample"),
    "E": ("everything on the GPU",),
}


@dataclass(frozen=True, slots=True)
class Rung:
    """letter: A CUPTI with the GPU's switches, B CUPTI, C torch.profiler, D NVML, E nothing. reason: why not higher."""

    letter: str
    source: str
    reason: str
    replay: bool

    @property
    def cannot_see(self) -> tuple[str, ...]:
        return CANNOT_SEE[self.letter]


def rung_of(recordings: Sequence[Recording], ladder: dict[str, Any], *, kineto: bool, nvml: bool) -> Rung:
    states = [state for recording in recordings for state in recording.cuda.states]
    on = [state for state in states if state["step"] == CudaStep.ON]
    replay = any(state["replay"] for state in states) or bool(ladder.get("replay"))
    if on:
        lacking = [state for state in on if state["switches_error"]]
        if not lacking:
            return Rung("A", f"CUPTI {version_name(on[0]['version'])}", "", replay)
        return Rung("B", f"CUPTI {version_name(lacking[0]['version'])}", _no_switches(lacking[0]), replay)
    reason = failure(states[0]) if states else _never_begun(ladder)
    if kineto:
        return Rung("C", "torch.profiler", reason, replay)
    if nvml:
        return Rung("D", "NVML", reason, replay)
    return Rung("E", "", reason, replay)


def version_name(version: int) -> str:
    """CUPTI numbers its versions by CUDA's from 13.0 on (130100 is 13.1), before that by themselves (28 is 12.9)."""
    return f"{version // 10000}.{version // 100 % 100}" if version >= 100000 else f"API {version}"


def failure(state: dict[str, Any]) -> str:
    """Why CUPTI is off in the process of this CUDA_STATE record."""
    step, error = state["step"], ERRORS.get(state["error"], f"CUPTI's error {state['error']}")
    match step:
        case CudaStep.NOT_FOUND:
            return "no libcupti was found: pip install nvidia-cuda-cupti (for CUDA 13) or nvidia-cuda-cupti-cu12"
        case CudaStep.SYMBOLS:
            return f"{state['path'] or 'libcupti'} lacks functions that are needed"
        case CudaStep.VERSION | CudaStep.SUBSCRIBE:
            return f"CUPTI cannot be started: {error}"
        case CudaStep.ENABLE:
            return f"CUPTI records neither kernels nor copies: {error}"
        case _:
            return f"CUPTI cannot be set up: {error}"


def _no_switches(state: dict[str, Any]) -> str:
    if state["version"] < WITH_SWITCHES:
        return f"CUPTI {version_name(state['version'])} does not record context switches; 13.1 and later do"
    return "CUPTI does not record context switches here: " + ERRORS.get(
        state["switches_error"], f"error {state['switches_error']}"
    )


def _never_begun(ladder: dict[str, Any]) -> str:
    reason = str(ladder.get("reason", ""))
    if reason:
        return reason
    return "the script made no CUDA call" if ladder else "--cuda was not given"
