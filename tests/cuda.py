"""Our own driver and libcupti, and the scripts that use them: what a test with a real GPU would do, without one."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from gilprobe.launch.target import Options, environment

NATIVE = Path(__file__).parent / "native"

# One process: a context, THREADS threads that each launch LAUNCHES kernels of LENGTH_NS, 2 ms apart.
SCRIPT = """
import ctypes, os, sys, threading, time
launches, length_ns, threads = (int(word) for word in sys.argv[1:4])
cuda = ctypes.CDLL("libcuda.so.1")
cuda.fake_launch.argtypes = [ctypes.c_uint64] * 2
cuda.cuCtxSetCurrent.argtypes = [ctypes.c_void_p]
assert cuda.cuInit(0) == 0
context = ctypes.c_void_p()
cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0)
def work():
    cuda.cuCtxSetCurrent(context)
    for _ in range(launches):
        cuda.fake_launch(time.monotonic_ns() + 10_000, length_ns)
        time.sleep(length_ns / 1e9 + 0.001)
    cuda.cuCtxSynchronize()
workers = [threading.Thread(target=work) for _ in range(threads)]
for worker in workers: worker.start()
for worker in workers: worker.join()
cuda.cuCtxDestroy_v2(context)
print("done")
"""


@dataclass(frozen=True)
class Fake:
    """folder holds libcuda.so.1 and libcupti.so.13."""

    folder: Path

    @property
    def cupti(self) -> Path:
        return self.folder / "libcupti.so.13"

    def environment(self, recording: Path | None = None, **variables: str) -> dict[str, str]:
        options = Options(cuda=True, cupti=str(self.cupti), events=True)
        base = environment(recording, options) if recording else {}
        return base | {"LD_LIBRARY_PATH": str(self.folder), "FAKE_CUPTI": str(self.cupti)} | variables

    def run(self, python: str, recording: Path, *words: object, script: str = SCRIPT, **variables: str) -> str:
        """Records the script; its output. Raises where it fails."""
        recording.mkdir(exist_ok=True)
        return subprocess.run(
            [python, "-c", script, *map(str, words)],
            env=self.environment(recording, **variables), capture_output=True, text=True, check=True, timeout=300,
        ).stdout  # fmt: skip


def build(folder: Path, *flags: str) -> Fake:
    for source, name in (("fake_driver.c", "libcuda.so.1"), ("fake_cupti.c", "libcupti.so.13")):
        subprocess.run(
            ["gcc", "-O1", "-shared", "-fPIC", *flags, "-o", folder / name, NATIVE / source, "-ldl", "-lpthread"],
            check=True,
        )
    return Fake(folder)
