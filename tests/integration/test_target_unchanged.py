"""What the script can see is the same with and without the recorder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pythons import ROOT, Python

from gilprobe.launch.target import Options, environment

LOOK = """
import json, os, signal, sys
handlers = {int(s): repr(signal.getsignal(s)) for s in signal.valid_signals()}
mask = sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, [])))
print(json.dumps([sys.argv, sys.path, sorted(sys.modules), list(sys.flags), dict(os.environ), handlers, mask,
                  getattr(sys, "_is_gil_enabled", lambda: True)(),
                  sorted(f for f in os.listdir("/proc/self/fd"))]))
sys.stderr.write("to stderr")
sys.exit(7)
"""


def run(
    python: Python, arguments: list[str], folder: Path, *, recorded: bool, **more: object
) -> subprocess.CompletedProcess[bytes]:
    folder.mkdir(exist_ok=True)
    variables = environment(folder, Options(rate_hz=100)) if recorded else dict(os.environ)
    settings = {"timeout": 120, **more}
    return subprocess.run([python.executable, *arguments], env=variables, capture_output=True, check=False, **settings)  # type: ignore[call-overload,no-any-return]


def test_the_script_sees_the_same_world(any_python: Python, tmp_path: Path) -> None:
    script = tmp_path / "look.py"
    script.write_text(LOOK)
    plain = run(any_python, [str(script), "a", "--force"], tmp_path / "r", recorded=False)
    recorded = run(any_python, [str(script), "a", "--force"], tmp_path / "r", recorded=True)
    assert json.loads(plain.stdout) == json.loads(recorded.stdout)
    assert (plain.stderr, plain.returncode) == (recorded.stderr, recorded.returncode) == (b"to stderr", 7)
    assert list((tmp_path / "r").glob("*.gpr"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT])
def test_a_signal_ends_the_script_as_it_would(any_python: Python, tmp_path: Path, number: int) -> None:
    code = f"import os; os.kill(os.getpid(), {int(number)})"
    plain = run(any_python, ["-c", code], tmp_path / "r", recorded=False)
    recorded = run(any_python, ["-c", code], tmp_path / "r", recorded=True)
    assert plain.returncode == recorded.returncode


def test_a_waiting_script_gets_its_own_signals_only(any_python: Python, tmp_path: Path) -> None:
    code = """
import signal, threading, time
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
threading.Timer(0.3, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)).start()
end = time.thread_time() + 0.2
while time.thread_time() < end: pass
print(signal.sigwait(signal.valid_signals()))
"""
    plain = run(any_python, ["-c", code], tmp_path / "r", recorded=False)
    recorded = run(any_python, ["-c", code], tmp_path / "r", recorded=True)
    assert plain.stdout == recorded.stdout != b""


def test_an_existing_preload_stays_first_for_the_script_and_its_children(any_python: Python, tmp_path: Path) -> None:
    source = tmp_path / "other.c"
    source.write_text("int zoo_preloaded(void) { return 42; }")
    other = tmp_path / "libother.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", other, source], check=True)
    code = (
        "import ctypes, os, subprocess, sys; own = ctypes.CDLL(None).zoo_preloaded(); "
        "child = subprocess.run([sys.executable, '-c', 'import ctypes, os; print(ctypes.CDLL(None).zoo_preloaded(), "
        'os.environ["LD_PRELOAD"])\'], capture_output=True, text=True).stdout; '
        "print(own, os.environ['LD_PRELOAD'], child)"
    )
    (tmp_path / "r").mkdir()
    previous = dict(os.environ)
    try:
        os.environ["LD_PRELOAD"] = str(other)
        variables = environment(tmp_path / "r", Options(rate_hz=0))
    finally:
        os.environ.clear()
        os.environ.update(previous)
    done = subprocess.run(
        [any_python.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["42", str(other), "42", str(other)]
    assert len(list((tmp_path / "r").glob("*.gpr"))) == 2


# The first three take seconds; GILPROBE_LONG=1 runs all, some minutes an interpreter.
CPYTHON_TESTS = [
    "test_thread", "test_queue", "test_fork1", "test_threading", "test_threading_local", "test_threadedtempfile",
    "test_concurrent_futures", "test_subprocess", "test_signal", "test_multiprocessing_spawn",
]  # fmt: skip


@pytest.mark.parametrize("name", CPYTHON_TESTS if os.environ.get("GILPROBE_LONG") else CPYTHON_TESTS[:3])
def test_cpythons_own_tests_give_the_same_result(any_python: Python, tmp_path: Path, name: str) -> None:
    probe = run(any_python, ["-c", f"import test.{name}"], tmp_path / "r", recorded=False)
    if probe.returncode:
        pytest.skip(f"NO TESTS OF ITS OWN: Python {any_python} ships no test.{name}")
    for _ in range(2):  # on a busy machine some of them fail by themselves
        plain, recorded = (
            run(any_python, ["-m", "test", name], tmp_path / "r", recorded=recorded, timeout=900)
            for recorded in (False, True)
        )
        if counts(plain.stdout) == counts(recorded.stdout):
            break
    assert plain.returncode == recorded.returncode, recorded.stdout[-3000:].decode()
    assert counts(plain.stdout) == counts(recorded.stdout) != []


def counts(output: bytes) -> list[str]:
    """What regrtest says at its end: how many tests ran, failed and were skipped."""
    return [line for line in output.decode().splitlines() if line.startswith(("Total tests:", "Result:"))]


def test_nothing_of_gilprobe_is_imported_into_the_target(any_python: Python, tmp_path: Path) -> None:
    code = "import sys; print([m for m in sys.modules if 'gilprobe' in m])"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "gilprobe",
            "profile",
            "-q",
            "-o",
            tmp_path / "r",
            "--python",
            any_python.executable,
            "-c",
            code,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


LOSES = """
import random, signal, time
class Stop(Exception): pass
def stop(*_): raise Stop
signal.signal(signal.SIGALRM, stop)
chosen, lost = random.Random(1), 0
for number in range(600):
    names = {"time": time}
    # A function never seen before: its first wait is the dearest for the recorder.
    source = "def fresh():\\n" + "    pass\\n" * (number % 7) + "    time.sleep(0.05)"
    exec(compile(source, f"fresh{number}.py", "exec"), names)
    start = time.perf_counter()
    try:
        signal.setitimer(signal.ITIMER_REAL, chosen.uniform(2e-6, 1.2e-4))
        names["fresh"]()
        time.sleep(0.001)
    except Stop:
        lost += time.perf_counter() - start > 0.045
print(lost)
"""


def test_a_signal_just_before_a_sleep_ends_it_as_often_as_it_would(any_python: Python, tmp_path: Path) -> None:
    # Python itself loses a few of those that come between its last look and the call: about 3 of 600 here.
    plain = run(any_python, ["-c", LOSES], tmp_path / "r", recorded=False)
    recorded = run(any_python, ["-c", LOSES], tmp_path / "r", recorded=True)
    assert int(recorded.stdout) <= int(plain.stdout) + 15
