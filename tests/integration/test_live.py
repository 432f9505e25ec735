"""Looking at a recording while the program runs: from its own terminal, and from outside."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

from pythons import ROOT

from gilprobe.analysis.live import snapshot
from gilprobe.errors import RecordingError

SCRIPT = """
import os, sys, threading, time
lock = threading.Lock()
over = os.path.join(os.path.dirname(sys.argv[0]), "over")
deadline = time.time() + 600
def work():
    while not os.path.exists(over) and time.time() < deadline:
        with lock: time.sleep(0.005)
def idle(): time.sleep(0.01)
threads = [threading.Thread(target=work, name=f"worker {i}") for i in range(3)]
for t in threads: t.start()
for t in threads: t.join()
print("done")
"""
GILPROBE = [sys.executable, "-m", "gilprobe"]


def start(folder: Path, *options: str, stderr: int | None = None) -> subprocess.Popen[str]:
    (folder / "script.py").write_text(SCRIPT)
    return subprocess.Popen(
        [*GILPROBE, "profile", "-q", "-o", folder / "r", *options, folder / "script.py"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True,
    )  # fmt: skip


def until_waiting(recording: Path) -> None:
    """Until all three workers have been seen."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        try:
            names = {thread.name for thread in snapshot(recording).threads.values() if thread.blocked.get("lock")}
        except RecordingError:
            names = set()
        if names >= {"worker 0", "worker 1", "worker 2"}:
            return
        time.sleep(0.05)
    raise AssertionError("the workers never waited")


def test_a_snapshot_says_what_each_thread_waits_for_now(tmp_path: Path) -> None:
    script = start(tmp_path)
    try:
        until_waiting(tmp_path / "r")
        waiting = [thread for _ in range(5) for thread in snapshot(tmp_path / "r").threads.values() if thread.now]
        kinds = {(thread.name[:6], thread.now.kind) for thread in waiting if thread.now}
        assert ("MainTh", "join") in kinds and ("worker", "lock") in kinds
    finally:
        (tmp_path / "over").touch()
        assert script.communicate(timeout=300)[0] == "done\n"
    after = snapshot(tmp_path / "r")
    assert after.running == 0 and all(thread.ended for thread in after.threads.values())


def _waits(line: str, worker: str) -> bool:
    return worker in line and "lock: lock in work at script.py:8" in line


def test_follow_prints_screens_into_a_pipe_until_the_program_ends(tmp_path: Path) -> None:
    script = start(tmp_path)
    until_waiting(tmp_path / "r")
    follower = subprocess.Popen(
        [*GILPROBE, "report", tmp_path / "r", "--follow"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert follower.stdout
    lines = []
    for line in follower.stdout:
        lines.append(line.rstrip())
        # Its workers hold the lock by turns: until a screen comes while this one waits.
        if line.startswith("lock") and any(_waits(seen, "worker 1") for seen in lines):
            (tmp_path / "over").touch()
    assert follower.wait(300) == 0 and script.wait(300) == 0
    assert max(map(len, lines)) <= 80
    assert any("4 threads of 1 running process" in line for line in lines)
    assert any(_waits(line, "worker 1") for line in lines)
    assert any(line.startswith("lock") and line.endswith("lock in work at script.py:8 in work") for line in lines)


def test_live_draws_on_the_terminal_and_leaves_the_scripts_output_alone(tmp_path: Path) -> None:
    terminal, inside = pty.openpty()
    script = start(tmp_path, "--live", stderr=inside)
    os.close(inside)
    screen = b""
    while True:
        try:
            screen += os.read(terminal, 65536)
        except OSError:  # the terminal's other side is closed
            break
        if b"lock in work at script.py:8" in screen:
            (tmp_path / "over").touch()
    os.close(terminal)
    assert script.communicate(timeout=300)[0] == "done\n" and script.returncode == 0
    assert b"worker 2" in screen and b"running process" in screen


def test_what_cannot_be_shown_is_refused(tmp_path: Path) -> None:
    script = start(tmp_path, "--live", stderr=subprocess.PIPE)
    assert "--live needs a terminal" in script.communicate(timeout=300)[1] and script.returncode == 2
    assert not (tmp_path / "r").exists()
    done = subprocess.run(
        [*GILPROBE, "report", tmp_path / "r", "--follow"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3 and "does not exist" in done.stderr
