"""Which class a second is counted in, where that is not plain."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pythons import Python

from gilprobe.analysis import load
from gilprobe.model import Profile
from reports.zoo.record import record_script

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
# A file's pages are in memory: copying them is computing, and whoever has no core meanwhile is ready to run.
READS = """
import os, subprocess, sys, threading
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
with open("pages", "wb") as file: file.write(bytes(4_000_000))
def copies():
    room = bytearray(4_000_000)
    with open("pages", "rb", buffering=0) as file:
        for _ in range(150):
            file.seek(0)
            file.readinto(room)
def waits():
    subprocess.run(["sleep", "0.2"], stdout=subprocess.PIPE)
for work in (copies, waits):
    thread = threading.Thread(target=work, name=work.__name__)
    thread.start()
    thread.join()
burner.kill()
"""
# The GIL of a free-threaded build is on only where it is asked for.
COMPUTES = """
import threading
threads = [threading.Thread(target=lambda: sum(range(2_000_000))) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""

# After each import of a C extension the GIL is turned off again, and who waited for it goes on without.
IMPORTS = """
import sys, threading, time
done = threading.Event()
def naps():
    while not done.is_set(): time.sleep(0)
    time.sleep(0.5)
threads = [threading.Thread(target=naps) for _ in range(4)]
for thread in threads: thread.start()
for _ in range(100):
    sys.modules.pop("_decimal", None)
    import _decimal
done.set()
for thread in threads: thread.join()
"""
REST_NS = 500_000_000


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


def test_a_read_that_never_blocked_is_no_io_and_one_that_did_is(
    any_python: Python, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    threads = {thread.name: thread for thread in profiled(any_python, tmp_path, READS).threads}
    assert threads["copies"].sleep_io_s < 0.1 * threads["copies"].runnable_s, threads["copies"]
    assert threads["waits"].sleep_io_s > 0.15


def test_a_wait_for_the_gil_ends_where_the_gil_is_turned_off(free_threaded_python: Python, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(IMPORTS)
    _, profile = record_script(str(free_threaded_python.executable), tmp_path / "script.py", events=True)
    timeline = profile.timeline
    assert timeline is not None
    for thread, wait, start_ns, duration_ns in zip(
        timeline.thread, timeline.wait, timeline.start_ns, timeline.duration_ns, strict=True
    ):
        if wait >= 0 and profile.waits[wait].kind == "gil" and profile.threads[thread].name != "MainThread":
            resting_ns = int((profile.threads[thread].start_s + profile.threads[thread].wall_s) * 1e9) - REST_NS
            assert not start_ns < resting_ns < start_ns + duration_ns


def test_the_gil_of_a_free_threaded_build_is_on_where_it_is_asked_for(
    free_threaded_python: Python, tmp_path: Path
) -> None:
    for wanted in (0, 1):
        profile = profiled(free_threaded_python, tmp_path, COMPUTES, PYTHON_GIL=str(wanted))
        assert profile.processes[0].gil_enabled is bool(wanted)
