"""python -m reports.gpu_study.merge: how long merging 10^6 kernels of 16 processes takes, and how much memory.

The recorder makes the recordings, in 16 processes at once; what the GPU would tell comes from the tests' stand-ins for
the driver and libcupti: by turns one kernel of each process, with the GPU's switches around it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from gilprobe.launch.target import Options, environment
from reports.environment import ROOT

KERNELS, PROCESSES, BAR_S = 1_000_000, 16, 10.0
RECORD = """
import ctypes, sys
number, kernels, processes = (int(word) for word in sys.argv[1:4])
cupti, cuda = ctypes.CDLL(sys.argv[4]), ctypes.CDLL("libcuda.so.1")
launch, switch = cuda.fake_launch, cupti.fake_switch
launch.argtypes, switch.argtypes = [ctypes.c_uint64] * 2, [ctypes.c_uint32, ctypes.c_uint64, ctypes.c_uint32]
assert cuda.cuInit(0) == 0
cuda.cuCtxCreate_v2(ctypes.byref(ctypes.c_void_p()), 0, 0)
for turn in range(kernels):
    start_ns = 10**12 + (turn * processes + number) * 10_000
    switch(1, start_ns - 500, 1)
    launch(start_ns, 8_000)
    switch(1, start_ns + 8_500, 2)
    if turn % 4000 == 0:
        cupti.cuptiActivityFlushAll(0)  # it keeps 16384 records at most
"""
ANALYSE = """
import json, resource, sys, time
start = time.perf_counter()
from gilprobe.analysis import load
cuda = load(sys.argv[1]).cuda
took_s, cpu_s = time.perf_counter() - start, time.process_time()
kernels, switches = (sum(context[name] for context in cuda["contexts"]) for name in ("kernels", "resident_s"))
peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"took_s": took_s, "cpu_s": cpu_s, "peak_bytes": peak_bytes, "kernels": kernels,
                  "resident_s": switches, "changes": cuda["changes"], "lost": cuda["lost"]}))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        recording = Path(name) / "recording"
        _record(Path(name), recording)
        size = sum(path.stat().st_size for path in recording.iterdir())
        command = [sys.executable, "-c", ANALYSE, str(recording)]
        runs = [
            json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3)
        ]
    found = runs[0]
    # Each process's kernels: a change of owner comes with all but the first.
    assert (found["kernels"], found["changes"]) == (KERNELS, KERNELS - 1) and not any(found["lost"].values()), found
    assert abs(found["resident_s"] - KERNELS * 9_000e-9) < 1e-6, found
    times = ", ".join(f"{run['took_s']:.2f}" for run in runs)
    verdict = "met" if max(run["took_s"] for run in runs) <= BAR_S else "missed"
    print(
        f"{KERNELS} kernels of {PROCESSES} processes (a replay, {size / 1e6:.0f} MB), read and merged: "
        f"{times} s (bar {BAR_S:.0f} s): {verdict}; CPU "
        f"{max(run['cpu_s'] for run in runs):.2f} s, peak memory "
        f"{max(run['peak_bytes'] for run in runs) / 1e9:.2f} GB"
    )


def _record(folder: Path, recording: Path) -> None:
    recording.mkdir()
    cupti = folder / "libcupti.so.13"
    for source, library in (("fake_driver.c", "libcuda.so.1"), ("fake_cupti.c", cupti.name)):
        command = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(folder / library), str(ROOT / "tests/native" / source)]
        subprocess.run([*command, "-ldl", "-lpthread"], check=True)
    variables = environment(recording, Options(cuda=True, cupti=str(cupti)))
    variables |= {"LD_LIBRARY_PATH": str(folder), "FAKE_CUPTI": str(cupti)}
    words = [str(KERNELS // PROCESSES), str(PROCESSES), str(cupti)]
    children = [
        subprocess.Popen([sys.executable, "-c", RECORD, str(number), *words], env=variables)
        for number in range(PROCESSES)
    ]
    statuses = [child.wait() for child in children]
    if any(statuses):
        raise RuntimeError("a process could not be recorded")


if __name__ == "__main__":
    main()
