"""A sample may find the stack half made: what a frame points at then is whatever was there before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from compiled import shared_library
from pythons import Python, pythons

from gilprobe.analysis import load

# Up to 3.12 the current frame is reached through a _PyCFrame on the C stack, which a call makes current before it has
# a frame. Offsets: CPython 3.11 and 3.12, PyThreadState.cframe, _PyInterpreterFrame, PyCodeObject.
WITH_CFRAME = [python for python in pythons() if not python.free_threaded and python.minor <= 12]
FRAME_AT = {11: 8, 12: 0}
CODE_AT = {11: 32, 12: 0}

BURN = """
#include <stdint.h>
#include <time.h>
static char table[64], code[1024], frame[256];
void burn(char **state, int frame_at, int code_at) {
    char **current = (char **)(state[56 / 8] + frame_at), *kept = *current;
    *(char **)(frame + code_at) = code;
    *(uint64_t *)(code + 112) = 999999999; /* co_filename */
    *(uint64_t *)(code + 128) = 999999999; /* co_qualname */
    *(char **)(code + 136) = table;        /* co_linetable */
    *current = frame;
    for (clock_t end = clock() + CLOCKS_PER_SEC / 2; clock() < end;);
    *current = kept;
}
"""
SCRIPT = """
import ctypes, sys
ctypes.pythonapi.PyThreadState_Get.restype = ctypes.c_void_p
library = ctypes.PyDLL(sys.argv[1])
library.burn(ctypes.c_void_p(ctypes.pythonapi.PyThreadState_Get()), int(sys.argv[2]), int(sys.argv[3]))
print("went on")
"""


@pytest.mark.parametrize("python", WITH_CFRAME, ids=str)
def test_what_only_looks_like_a_frame_is_not_read_as_one(python: Python, tmp_path: Path) -> None:
    library = shared_library(BURN, tmp_path)
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "gilprobe", "profile", "-q", "--rate", "500", "-o", tmp_path / "r"]
    numbers = [str(FRAME_AT[python.minor]), str(CODE_AT[python.minor])]
    done = subprocess.run(
        [*command, "--python", python.executable, tmp_path / "script.py", library, *numbers],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
    assert load(tmp_path / "r").meta["samples"] > 10
