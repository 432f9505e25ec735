"""A known answer: kernels that take one millisecond each when alone. Run by its path; standard library only.

spin.py solo            prints how many turns of the loop take 1 ms on this GPU
spin.py run TURNS COUNT FOLDER      makes FOLDER/ready-PID, waits for FOLDER/start (a time on CLOCK_MONOTONIC in ns),
                                    launches COUNT kernels from then on, prints its wall time
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

# One thread; each turn depends on the one before, so that the loop cannot be shortened.
PTX = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry spin(.param .u64 turns, .param .u64 out)
{
    .reg .u64 %n, %i, %v, %o;
    .reg .pred %more;
    ld.param.u64 %n, [turns];
    ld.param.u64 %o, [out];
    cvta.to.global.u64 %o, %o;
    mov.u64 %i, 0;
    mov.u64 %v, 1;
again:
    mad.lo.u64 %v, %v, %v, %i;
    add.u64 %i, %i, 1;
    setp.lt.u64 %more, %i, %n;
    @%more bra again;
    st.global.u64 [%o], %v;
    ret;
}
"""


WARM_UP, KEPT_WARM_NS = 20, 400_000_000


class Spin:
    """A context of this process's own. Raises RuntimeError with CUDA's error."""

    def __init__(self) -> None:
        self.driver = ctypes.CDLL("libcuda.so.1")
        self.call("cuInit", 0)
        context, module, self.function, self.out = (ctypes.c_void_p() for _ in range(4))
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self.call("cuCtxSetCurrent", context)
        self.call("cuModuleLoadData", ctypes.byref(module), PTX)
        self.call("cuModuleGetFunction", ctypes.byref(self.function), module, b"spin")
        self.call("cuMemAlloc_v2", ctypes.byref(self.out), ctypes.c_size_t(8))

    def call(self, name: str, *arguments: Any) -> None:
        error = getattr(self.driver, name)(*arguments)
        if error:
            raise RuntimeError(f"{name} gives CUDA's error {error}")

    def launch(self, turns: int) -> None:
        values = ctypes.c_uint64(turns), self.out
        parameters = (ctypes.c_void_p * 2)(*(ctypes.addressof(value) for value in values))
        self.call("cuLaunchKernel", self.function, 1, 1, 1, 1, 1, 1, 0, None, parameters, None)

    def seconds(self, turns: int, count: int) -> float:
        self.call("cuCtxSynchronize")
        start = time.monotonic()
        for _ in range(count):
            self.launch(turns)
        self.call("cuCtxSynchronize")
        return time.monotonic() - start


def solo(spin: Spin) -> int:
    """Turns that take 1 ms, once the GPU's clock has risen; from kernels long enough to hide the launches."""
    turns = 100_000
    spin.seconds(turns, 200)
    for _ in range(3):
        turns = max(1000, round(turns * 1e-3 / alone_s(spin, turns)))
    return turns


def alone_s(spin: Spin, turns: int) -> float:
    """Of one kernel. The least of several: whatever disturbs the host only adds to it."""
    return min(spin.seconds(turns, 150) / 150 for _ in range(5))


def main() -> None:
    spin = Spin()
    if sys.argv[1] == "solo":
        turns = solo(spin)
        print(json.dumps({"turns": turns, "solo_ms": alone_s(spin, turns) * 1e3}))
        return
    turns, count, folder = int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    spin.seconds(turns, WARM_UP)
    (folder / f"ready-{os.getpid()}").touch()
    while not (folder / "start").exists():
        time.sleep(0.005)
    start_ns = int((folder / "start").read_text())
    late_ns = time.monotonic_ns() - start_ns
    while (left_ns := start_ns - time.monotonic_ns()) > 0:
        # Kept at work up to the start: an idle GPU lowers its clock, and a turn of the loop would take longer.
        if KEPT_WARM_NS > left_ns > 4 * WARM_UP * 1_000_000:
            spin.seconds(turns, WARM_UP)
        else:
            time.sleep(0.0005)
    begin_ns = time.monotonic_ns()
    wall_s = spin.seconds(turns, count)
    print(json.dumps({"wall_s": wall_s, "late_ns": max(0, late_ns), "begin_ns": begin_ns}))


if __name__ == "__main__":
    main()
