"""The longest holds of the GIL, down to the C function that had it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from compiled import shared_library
from pythons import Python

from gilprobe.analysis import load
from gilprobe.analysis.native_symbols import UNKNOWN
from gilprobe.launch.target import Options, environment
from gilprobe.model import GilHold, NativeFunction

HELD_MS = 200
LIBRARY = """
#include <time.h>
#include <unistd.h>
static volatile unsigned long sink;
static long milliseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
__attribute__((noinline)) static void planted_loop(void) { for (int i = 0; i < 20000; i++) sink += i; }
void planted_spin(long ms) { long end = milliseconds() + ms; while (milliseconds() < end) planted_loop(); }
void planted_sleep(long ms) { usleep(ms * 1000); sink++; }
"""
PROGRAM = """
import ctypes, sys, threading, time
kind, name, ms = sys.argv[1], sys.argv[2], int(sys.argv[3])
call = getattr(getattr(ctypes, kind)(sys.argv[4]), name)
call.argtypes = [ctypes.c_long]
def holder():
    for _ in range(2):
        call(ms)  # here
        time.sleep(0.01)
    done.append(True)
done = []
def ordinary():
    while not done: sum(range(1000))
threads = [threading.Thread(target=work, name=work.__name__) for work in (holder, ordinary, ordinary)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


LINE = PROGRAM[: PROGRAM.index("# here")].count("\n") + 1


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_library(LIBRARY, tmp_path_factory.mktemp("planted"))


def holds(python: Python, folder: Path, library: Path, kind: str, function: str) -> tuple[GilHold, ...]:
    """Those of the thread that calls the library."""
    script, out = folder / "program.py", folder / "recording"
    script.write_text(PROGRAM)
    out.mkdir()
    variables = os.environ | environment(out, Options(rate_hz=100))
    subprocess.run([python.executable, script, kind, function, str(HELD_MS), library], env=variables, check=True)
    profile = load(out)
    assert profile.to_dict()["gil_holds"]
    longest = max((hold for hold in profile.gil_holds if hold.waiters), key=lambda hold: hold.held_s, default=None)
    for finding in profile.findings:
        if finding.kind == "gil" and longest and longest.held_s >= HELD_MS / 1000:  # any thread's, on a busy machine
            assert f"ms by {longest.thread}" in finding.detail
    return tuple(hold for hold in profile.gil_holds if hold.thread == "holder")


@pytest.mark.parametrize(
    ("function", "found"), [("planted_spin", {"planted_loop", "planted_spin"}), ("planted_sleep", {"planted_sleep"})]
)
def test_a_call_that_keeps_the_gil_is_named(
    gil_python: Python, tmp_path: Path, library: Path, function: str, found: set[str]
) -> None:
    longest = holds(gil_python, tmp_path, library, "PyDLL", function)[:2]
    for hold in longest:
        assert hold.held_s >= (HELD_MS - 2) / 1000 and hold.waiters >= 1 and not hold.open
        assert hold.native[0].library == "library.so" and hold.native[0].name in found
        assert (hold.stack[0].function, hold.stack[0].line) == ("holder", LINE)
    assert len(longest) == 2


@pytest.mark.parametrize("function", ["planted_spin", "planted_sleep"])
def test_the_twin_that_releases_it_is_not(gil_python: Python, tmp_path: Path, library: Path, function: str) -> None:
    for hold in holds(gil_python, tmp_path, library, "CDLL", function):
        assert all(part.library != "library.so" for part in hold.native)


def test_a_stripped_library_is_named_without_its_function(gil_python: Python, tmp_path: Path, library: Path) -> None:
    stripped = tmp_path / "libbare.so"
    subprocess.run(["strip", "--strip-all", "-o", stripped, library], check=True)
    longest = holds(gil_python, tmp_path, stripped, "PyDLL", "planted_spin")[0]
    # planted_loop is static; planted_spin, which calls it, is still in .dynsym.
    assert NativeFunction(UNKNOWN, "libbare.so", pytest.approx(0.5, abs=0.5)) in longest.native


def test_a_hold_that_never_ended_is_told_after_a_kill(gil_python: Python, tmp_path: Path, library: Path) -> None:
    out = tmp_path / "recording"
    out.mkdir()
    program = f"""
import ctypes, os, signal, threading, time
begins, begun = os.pipe()
spin = ctypes.PyDLL({str(library)!r}).planted_spin
threading.Thread(target=lambda: time.sleep(0.01), daemon=True).start()
if os.fork() == 0:
    os.read(begins, 1)
    time.sleep(0.6)
    os.kill(os.getppid(), signal.SIGKILL)
    os._exit(0)
time.sleep(0.02)
os.write(begun, b"x")
spin(60_000)
"""
    variables = os.environ | environment(out, Options(rate_hz=100))
    subprocess.run([gil_python.executable, "-c", program], env=variables, check=False, timeout=300)
    (hold,) = [hold for hold in load(out).gil_holds if hold.open and hold.held_s > 0.1]
    assert {"planted_loop", "planted_spin"} & {part.name for part in hold.native}
