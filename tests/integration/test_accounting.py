"""Which class a second is counted in, where that is not plain."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pythons import Python

from gilprobe.analysis import load
from gilprobe.model import Profile

# Everything on one core, with a neighbour: whoever may go on seldom can.
ONE_CORE = """
import hashlib, os, subprocess, sys, threading, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
data, rested = bytes(200_000), threading.Event()
def work():
    while not rested.is_set():
        hashlib.sha256(data).digest()  # without the GIL
        sum(range(3000))
def rest():
    for _ in range(60): time.sleep(0.004)
    rested.set()
threads = [threading.Thread(target=work) for _ in range(4)] + [threading.Thread(target=rest, name="rest")]
for thread in threads: thread.start()
for thread in threads: thread.join()
burner.kill()
"""
# The GIL of a free-threaded build is on only where it is asked for.
COMPUTES = """
import threading
threads = [threading.Thread(target=lambda: sum(range(2_000_000))) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def profiled(python: Python, folder: Path, script: str, **variables: str) -> Profile:
    (folder / "script.py").write_text(script)
    command = [sys.executable, "-m", "gilprobe", "profile", "-q", "--force", "-o", folder / "r"]
    program = ["env", *(f"{name}={value}" for name, value in variables.items()), *command]
    subprocess.run([*program, "--python", python.executable, folder / "script.py"], check=True, timeout=300)
    return load(folder / "r")


def test_who_could_have_the_gil_but_has_no_core_is_ready_not_blocked(gil_python: Python, tmp_path: Path) -> None:
    waits = [wait for wait in profiled(gil_python, tmp_path, ONE_CORE).waits if wait.kind == "gil"]
    assert sum(wait.wake_delay_s for wait in waits) > 0.03 * sum(wait.total_s for wait in waits)


def test_who_slept_long_enough_but_has_no_core_is_ready_not_asleep(any_python: Python, tmp_path: Path) -> None:
    (rest,) = [thread for thread in profiled(any_python, tmp_path, ONE_CORE).threads if thread.name == "rest"]
    assert rest.wake_delay_s > 0.3 * rest.runnable_s, rest


def test_the_gil_of_a_free_threaded_build_is_on_where_it_is_asked_for(
    free_threaded_python: Python, tmp_path: Path
) -> None:
    for wanted in (0, 1):
        profile = profiled(free_threaded_python, tmp_path, COMPUTES, PYTHON_GIL=str(wanted))
        assert profile.processes[0].gil_enabled is bool(wanted)
