"""Objects that nobody counts are not fought over, however often all threads read them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from compiled import shared_library
from pythons import Python

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment

# Counts as CPython does, 400 times a call: where the object is immortal the atomic is jumped over. The slow instruction
# behind it is where most samples stand.
COUNTS = """
void counts(void *object, long turns) {
    while (turns--)
        __asm__ volatile("cmpl $-1, 12(%0)\\n je 1f\\n lock addq $4, 16(%0)\\n 1: pause\\n"
                         ::"r"(object) : "memory", "cc");
}
"""
SCRIPT = """
import ctypes, threading, time
counts = ctypes.CDLL(LIBRARY).counts
counts.argtypes = ctypes.c_void_p, ctypes.c_long
class Counted: pass
counted = Counted()
def body():
    end = time.thread_time() + 1
    while time.thread_time() < end: counts(id(OBJECT), 400)
threads = [threading.Thread(target=body) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def hot(python: Python, folder: Path, thing: str) -> list[str]:
    (folder / thing).mkdir()
    library = shared_library(COUNTS, folder)
    script = SCRIPT.replace("LIBRARY", repr(str(library))).replace("OBJECT", thing)
    variables = environment(folder / thing, Options(rate_hz=1000))
    subprocess.run([python.executable, "-c", script], env=variables, check=True, timeout=300)
    return [found.object_type for found in load(folder / thing).hot_objects]


def test_an_immortal_object_is_never_hot_and_its_counted_twin_is(free_threaded_python: Python, tmp_path: Path) -> None:
    assert "NoneType" not in hot(free_threaded_python, tmp_path, "None")  # ctypes has types of its own that are
    assert "Counted" in hot(free_threaded_python, tmp_path, "counted")
