"""py-spy beside the script: its stacks are told apart, the script notices nothing, where it cannot run that is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from pythons import Python

from gilprobe.analysis import load
from gilprobe.launch import py_spy
from gilprobe.model import Profile

pytestmark = pytest.mark.skipif(py_spy.find() is None, reason="NO PY-SPY: pip install py-spy")

# Until py-spy samples: its log, beside the recording, says so. On a busy machine that is long after it was started.
SAMPLED = """
import os, sys, time
give_up = time.perf_counter() + 200
def sampled():
    try:
        with open(LOG) as log: return "Sampling" in log.read()
    except OSError: return False
while not sampled() and time.perf_counter() < give_up: time.sleep(0.01)
"""
THREE = """
import ctypes, sys, threading, time
end = time.perf_counter() + 1.5
library, data = ctypes.CDLL(None), ctypes.create_string_buffer(1 << 26)
library.memchr.argtypes = ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
def computes():
    while time.perf_counter() < end: pass
def in_native_code():
    while time.perf_counter() < end: library.memchr(data, 1, len(data))
def sleeps():
    while time.perf_counter() < end: time.sleep(0.02)
threads = [threading.Thread(target=body, name=body.__name__) for body in (computes, in_native_code, sleeps)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("done")
sys.exit(7)
"""
# Root may read every process; without this one capability it may not read those that forbid it.
WITHOUT_PTRACE = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_SYS_PTRACE = 24, 19
if ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0) and os.getuid() == 0:
    sys.exit("the capability cannot be dropped")
os.execv(sys.argv[1], sys.argv[1:])
"""
FORBIDS_READING = """
import ctypes, time
PR_SET_DUMPABLE = 4
ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
end = time.perf_counter() + 1.5
while time.perf_counter() < end: pass
"""


def profiled(folder: Path, python: str, code: str, *options: str, through: tuple[str, ...] = ()) -> tuple[int, str]:
    code = code.replace("LOG", repr(str(folder / "r" / "py-spy.log")))
    done = subprocess.run(
        [*through, sys.executable, "-m", "gilprobe", "profile", "-q", "-o", folder / "r", "--python", python, *options,
         "-c", code],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def seconds_by_state(profile: Profile, thread: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for sampled in profile.wall_stacks:
        if profile.threads[sampled.thread].name == thread and any(f.function == thread for f in sampled.stack):
            found[sampled.state] += sampled.seconds
    return found


def assert_told_apart(profile: Profile) -> None:
    """Of THREE: each of its threads did what its name says."""
    computes, native, sleeps = (seconds_by_state(profile, n) for n in ("computes", "in_native_code", "sleeps"))
    assert computes["held"] > max(computes["running"], computes["idle"]), computes
    assert native["held"] < 0.2 * sum(native.values()) < native["running"], native
    assert sleeps["idle"] > 2 * (sleeps["held"] + sleeps["running"]), sleeps
    (thread,) = [t for t in profile.threads if t.name == "computes"]
    # Of the time since it attached.
    allowed = 0.2 + 0.2 * thread.runnable_s / thread.wall_s
    assert computes["held"] / sum(computes.values()) == pytest.approx(thread.gil_held_s / thread.wall_s, abs=allowed)


def test_samples_are_told_apart_by_what_the_thread_did_then(gil_python: Python, tmp_path: Path) -> None:
    status, out = profiled(tmp_path, gil_python.executable, SAMPLED + THREE, "--sampler", "py-spy")
    assert (status, out) == (7, "done\n")
    profile = load(tmp_path / "r")
    if "stacks_by" not in profile.meta:
        pytest.skip(f"PY-SPY SAW NOTHING: {[item.why for item in profile.not_observed if 'py-spy' in item.what]}")
    assert profile.meta["stacks_by"] == "py-spy at 100 Hz"
    assert_told_apart(profile)


INTERRUPTED = """
import signal, sys, time
caught = []
signal.signal(signal.SIGINT, lambda *_: caught.append(time.perf_counter()))
print("ready", flush=True)
while not caught or time.perf_counter() < caught[0] + 1: time.sleep(0.01)
sys.exit(3)
"""


def test_a_terminals_interrupt_is_the_scripts_and_not_the_samplers(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "gilprobe", "profile", "-q", "-o", tmp_path / "r", "--sampler", "py-spy"]
    with subprocess.Popen(
        [*run, "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as started:
        assert started.stdout is not None and started.stdout.readline() == b"ready\n"
        log = tmp_path / "r" / "py-spy.log"
        while not (log.exists() and b"Sampling" in log.read_bytes()):
            assert started.poll() is None
            time.sleep(0.01)
        os.killpg(started.pid, signal.SIGINT)
        assert started.wait(300) == 3
    profile = load(tmp_path / "r")
    assert profile.wall_stacks
    assert [item for item in profile.not_observed if "py-spy" in item.what] == []


def test_it_comes_by_itself_seldom_and_its_samples_are_told_apart_without_single_waits(
    gil_python: Python, tmp_path: Path
) -> None:
    longer = SAMPLED + THREE.replace("+ 1.5", "+ 3")
    status, out = profiled(tmp_path, gil_python.executable, longer, "--rate", "1000")
    assert (status, out) == (7, "done\n")
    profile = load(tmp_path / "r")
    assert profile.timeline is None
    assert profile.meta["stacks_by"] == "py-spy at 20 Hz"
    assert_told_apart(profile)


def test_a_short_script_goes_without_it_and_so_does_the_native_sampler(tmp_path: Path) -> None:
    profiled(tmp_path, sys.executable, "pass")
    assert {path.suffix for path in (tmp_path / "r").iterdir()} == {".gpr"}
    assert not any("py-spy" in item.what for item in load(tmp_path / "r").not_observed)
    profiled(tmp_path, sys.executable, "import time; time.sleep(1)", "--events", "--sampler", "native", "--force")
    assert {path.suffix for path in (tmp_path / "r").iterdir()} == {".gpr"}
    profiled(tmp_path, sys.executable, SAMPLED + "time.sleep(1)", "--events", "--force")
    assert load(tmp_path / "r").wall_stacks


# Ends as soon as py-spy has been started, well before that can attach.
ENDS = """
import os, sys, time
give_up = time.perf_counter() + 200
while not os.path.exists(LOG) and time.perf_counter() < give_up: time.sleep(0.0001)
"""


@pytest.mark.parametrize("words", [[], ["--sampler", "py-spy"]], ids=["unasked", "asked"])
def test_a_script_that_ends_while_it_attaches_was_too_short_and_nothing_worse(tmp_path: Path, words: list[str]) -> None:
    assert profiled(tmp_path, sys.executable, ENDS, *words) == (0, "")
    profile = load(tmp_path / "r")
    said = [item.why.partition(":")[0] for item in profile.not_observed if item.what == "Python stacks by py-spy"]
    assert set(said) <= {"the script ended before it could attach", "it saw no thread"}
    assert said or profile.wall_stacks or not words


def test_free_threaded_builds_are_left_to_the_native_sampler_and_the_report_says_so(
    free_threaded_python: Python, tmp_path: Path
) -> None:
    # Until py-spy has given up: its log has the reason.
    gave_up = SAMPLED.replace("Sampling", "Error")
    status, out = profiled(tmp_path, free_threaded_python.executable, gave_up + THREE, "--sampler", "py-spy")
    assert (status, out) == (7, "done\n")
    profile = load(tmp_path / "r")
    assert "stacks_by" not in profile.meta
    (said,) = [item for item in profile.not_observed if "py-spy" in item.what]
    assert "free-threaded" in said.why and "native sampler serves" in said.why


def test_a_script_that_cannot_be_read_is_left_to_the_native_sampler(gil_python: Python, tmp_path: Path) -> None:
    without = sys.executable, "-c", WITHOUT_PTRACE
    status, _ = profiled(tmp_path, gil_python.executable, FORBIDS_READING, "--sampler", "py-spy", through=without)
    assert status == 0
    profile = load(tmp_path / "r")
    (said,) = [item for item in profile.not_observed if "py-spy" in item.what]
    # The cause differs: it may have attached before the script forbade it.
    assert "native sampler serves" in said.why
    assert profile.meta["samples"] > 0


def test_asking_for_it_where_it_is_missing_is_an_error_before_the_script_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gilprobe.cli.profile import _options
    from gilprobe.errors import UsageError

    monkeypatch.setattr(py_spy, "find", lambda: None)
    with pytest.raises(UsageError, match="not installed"):
        _options(False, 100, "py-spy")
    assert _options(True, 100, "auto").py_spy is None
