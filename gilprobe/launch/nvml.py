"""Samples of the GPU's use through libnvidia-ml, taken by gilprobe itself while the script runs."""

from __future__ import annotations

import ctypes
import json
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NVML = "nvml.jsonl"
PERIOD_S = 0.1
MOST_PROCESSES = 64


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used_bytes", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class NvmlSampler:
    """A context manager: writes one line of JSON a sample and device into the recording's folder.

    Where NVML cannot be had nothing is written. A reading that it refuses is null.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NVML
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, name="nvml", daemon=True)

    def __enter__(self) -> NvmlSampler:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ended.set()
        self.thread.join(5)

    def _run(self) -> None:
        try:
            nvml = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return
        count = ctypes.c_uint()
        if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return
        devices = []
        for number in range(count.value):
            device = ctypes.c_void_p()
            if not nvml.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(device)):
                devices.append((number, device))
        with self.path.open("w") as out:
            while not self.ended.wait(PERIOD_S):
                for number, device in devices:
                    print(json.dumps({"device": number, **sample(nvml, device)}), file=out, flush=True)
        nvml.nvmlShutdown()


def sample(nvml: Any, device: ctypes.c_void_p) -> dict[str, Any]:
    """gpu, jpg: per cent of the time, or null. processes: those with a context, and whether MPS serves them."""
    use, jpg, period_us = _Utilization(), ctypes.c_uint(), ctypes.c_uint()
    known = nvml.nvmlDeviceGetUtilizationRates(device, ctypes.byref(use)) == 0
    read_jpg = getattr(nvml, "nvmlDeviceGetJpgUtilization", None)
    jpg_known = read_jpg is not None and read_jpg(device, ctypes.byref(jpg), ctypes.byref(period_us)) == 0
    return {
        "time_s": time.monotonic(),
        "gpu": use.gpu if known else None,
        "jpg": jpg.value if jpg_known else None,
        "processes": [
            {"pid": pid, "mps": mps}
            for mps, name in (
                (False, "nvmlDeviceGetComputeRunningProcesses_v3"),
                (True, "nvmlDeviceGetMPSComputeRunningProcesses_v3"),
            )
            for pid in _pids(getattr(nvml, name, None), device)
        ],
    }


def _pids(read: Any, device: ctypes.c_void_p) -> list[int]:
    count, rows = ctypes.c_uint(MOST_PROCESSES), (_Process * MOST_PROCESSES)()
    if read is None or read(device, ctypes.byref(count), rows):
        return []
    return [rows[i].pid for i in range(min(count.value, MOST_PROCESSES))]
