"""What a sample holds of a deep stack and of a register, and what the first samples of a thread take."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from compiled import shared_library
from pythons import Python

from gilprobe.analysis.atomics import _touches
from gilprobe.analysis.code_ranges import CodeFile
from gilprobe.analysis.x86_64 import REPLACED, Decoder
from gilprobe.launch.target import Options, environment
from gilprobe.recording import Recording, read_folder

DEEP = """
import sys, threading, time
sys.setrecursionlimit(5000)
def leaf():
    total, end = 0.5, time.thread_time() + 0.1
    while time.thread_time() < end:
        for _ in range(10000): total *= 1.0000001
def deep(left):
    if left: deep(left - 1)
    else: leaf()
for depth in sys.argv[1:]:
    threading.Thread(target=deep, args=(int(depth),), name=depth).start()
"""

# The load writes its own base, whose old value is in a slot of the stack; one instruction more, for processors that
# sample later.
REPLACES = """
__asm__(".globl replaces\\n.type replaces, @function\\nreplaces:\\n.cfi_startproc\\n"
        "push %rbp\\nmov %rsp, %rbp\\nsub $16, %rsp\\nmov %rdi, -8(%rbp)\\n"
        "1: SLOT\\n"
        "LOAD\\n"
        "dec %rsi\\n"
        "jne 1b\\n"
        "leave\\nret\\n.cfi_endproc\\n.size replaces, .-replaces\\n");
"""
SPIN = """
import ctypes, sys
memory = (ctypes.c_uint64 * 64)()
replaces = ctypes.CDLL(sys.argv[1]).replaces
replaces.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
print(ctypes.addressof(memory), flush=True)
replaces(ctypes.addressof(memory), 400_000_000)
"""

ABOVE = 5  # leaf, the last deep, Thread.run, _bootstrap_inner, _bootstrap
KEPT = 64
DEPTHS = (3, 30, 100, 2000)


def sampled(python: Python, folder: Path, *depths: int, rate_hz: int) -> Recording:
    subprocess.run(
        [python.executable, "-c", DEEP, *map(str, depths)],
        env=environment(folder, Options(rate_hz=rate_hz)), check=True, timeout=300,
    )  # fmt: skip
    (recording,) = read_folder(folder)
    return recording


def test_samples_have_stacks_to_their_outermost_frame_or_as_deep_as_they_are_kept(
    every_python: Python, tmp_path: Path
) -> None:
    recording = sampled(every_python, tmp_path, *DEPTHS, rate_hz=1000)
    # A thread whose outermost frame is never within reach of a sample may have the kernel's name alone.
    assert {record.name for record in recording.threads.values()} >= {"3", "30"}
    for thread, record in recording.threads.items():
        if not record.name.isdigit():
            continue
        depth = int(record.name)
        ids = recording.samples["stack_id"][recording.samples["thread"] == thread]
        stacks = [recording.stacks[int(number)] for number in ids if number]
        whole = min(depth + ABOVE, KEPT)
        found = [
            (len(stack.python), stack.truncated)
            for stack in stacks
            if stack.python and recording.codes[stack.python[0][0]].qualname == "leaf"
        ]
        assert found
        assert found.count((whole, depth > KEPT)) > 0.9 * len(found), (depth, found)


def test_the_first_samples_of_two_threads_take_no_new_megabyte(every_python: Python, tmp_path: Path) -> None:
    recording = sampled(every_python, tmp_path, 1, 2, rate_hz=100)
    assert len(recording.samples)
    (file,) = tmp_path.glob("*.gpr")
    assert file.stat().st_size < 1 << 19


@pytest.mark.parametrize(
    ("slot", "load", "offset"),
    [
        ("mov -8(%rbp), %rax", "mov 0x30(%rax), %rax", 0x30),
        ("mov 8(%rsp), %r11", "mov (%r11), %r11", 0),
        ("mov -8(%rbp), %rcx", "movzwl 0x100(%rcx), %ecx", 0x100),
    ],
)
def test_a_load_that_writes_its_own_base_is_known_by_the_slot_that_the_base_came_from(
    free_threaded_python: Python, tmp_path: Path, slot: str, load: str, offset: int
) -> None:
    library = shared_library(REPLACES.replace("SLOT", slot).replace("LOAD", load), tmp_path)
    folder = tmp_path / "recording"
    folder.mkdir()
    ran = subprocess.run(
        [free_threaded_python.executable, "-c", SPIN, library], env=environment(folder, Options(rate_hz=1000)),
        check=True, timeout=300, capture_output=True, text=True,
    )  # fmt: skip
    (recording,) = read_folder(folder)
    (image,) = [image for image in recording.images if image.path == str(library)]
    samples = recording.samples
    touches = _touches(recording, *np.unique(samples["pc"], return_inverse=True))
    inside = (samples["pc"] >= image.start) & (samples["pc"] < image.end)
    lines = touches.line[inside[touches.sample]]
    assert len(lines) > 0.3 * inside.sum() > 30
    assert set(lines.tolist()) == {int(ran.stdout) + offset >> 6}
    decoder, file = Decoder(), CodeFile(library)
    for pc in np.unique(samples["pc"][inside]).tolist():
        operand = decoder.operand_before(file, pc - image.bias)
        here = samples[samples["pc"] == pc]
        if operand and operand.base == REPLACED:
            assert set(zip(here["base"].tolist(), here["base_back"].tolist(), strict=True)) == {
                (int(ran.stdout), operand.back)
            }
