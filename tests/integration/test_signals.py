"""A signal reaches the script exactly once, whether it is sent to gilprobe alone or to its whole process group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pythons import ROOT, Python

from gilprobe.analysis import load

# The wakeup descriptor counts what the handler would merge: signals that come in one turn of the interpreter.
COUNT = """
import os, select, signal, sys
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)
signal.signal(signal.Signals(int(sys.argv[1])), lambda number, frame: None)
print("up", os.getpid(), flush=True)
got = os.read(reader, 1)
while select.select([reader], [], [], 0.5)[0]: got += os.read(reader, 1)  # a second one would come well within
print(len(got))
"""


@contextmanager
def started(recording: Path, python: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """In a session of its own, none of which stays; the script's pid comes with it, once it is up."""
    words = [sys.executable, "-m", "gilprobe", "profile", "-q", "-o", str(recording), "--python", python, "-c"]
    process = subprocess.Popen(
        [*words, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline().removeprefix("up "))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1], ids=lambda n: n.name)
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["alone", "group"])
def test_the_script_gets_a_signal_once(
    tmp_path: Path, send: Callable[[int, int], None], number: signal.Signals
) -> None:
    with started(tmp_path / "r", sys.executable, COUNT, str(int(number))) as (process, _):
        send(process.pid, number)
        out, _ = process.communicate(timeout=300)
    assert (out, process.returncode) == ("1\n", 0)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
def test_a_signal_to_gilprobe_alone_ends_the_script_and_the_recording_is_whole(
    any_python: Python, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    code = "import os, time; print('up', os.getpid(), flush=True); time.sleep(600)"
    with started(tmp_path / "r", any_python.executable, code) as (process, script):
        os.kill(process.pid, number)
        process.communicate(timeout=120)
    assert process.returncode == status
    profile = load(tmp_path / "r")
    assert [p.pid for p in profile.processes] == [script]
    (thread,) = profile.threads
    assert thread.open_wait or thread.sleep_io_s


def test_ctrl_c_on_a_terminal_reaches_the_script_once_and_leaves_a_recording(
    any_python: Python, tmp_path: Path
) -> None:
    parent, terminal = os.openpty()
    words = [sys.executable, "-m", "gilprobe", "profile", "-o", str(tmp_path / "r"), "--python", any_python.executable]
    code = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    script = tmp_path / "script.py"
    script.write_text(COUNT)
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words, str(script), str(int(signal.SIGINT))],
        stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    assert process.stdout is not None and process.stdout.readline().startswith("up ")
    os.write(parent, b"\x03")
    out, err = process.communicate(timeout=300)
    os.close(parent)
    assert (out, process.returncode) == ("1\n", 0), err
    assert err.startswith("\ngilprobe  Python ") and load(tmp_path / "r").threads


def test_when_gilprobe_is_killed_the_script_goes_on_and_nothing_else_stays(any_python: Python, tmp_path: Path) -> None:
    with started(tmp_path / "r", any_python.executable, COUNT, str(int(signal.SIGUSR1))) as (process, script):
        process.kill()
        process.wait()
        os.kill(script, signal.SIGUSR1)
        assert process.stdout is not None and process.stdout.read() == "1\n"
        give_up = time.monotonic() + 300
        while group(process.pid) and time.monotonic() < give_up:
            time.sleep(0.05)
        assert group(process.pid) == []
    assert load(tmp_path / "r").threads


def group(leader: int) -> list[int]:
    """The living processes of a group; those that ended and nobody asked about do not count."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, process_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(process_group) == leader and state != "Z":
            found.append(int(folder.name))
    return found
