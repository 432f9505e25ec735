"""gilprobe attach: a program that runs already is recorded for a while, and goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pythons import ROOT, Python

from gilprobe.analysis import load
from gilprobe.errors import GilprobeError
from gilprobe.launch import Options
from gilprobe.launch.attached import Attached
from gilprobe.launch.ptrace import StoppedThread

HEAD = f"""
import hashlib, json, math, sys, threading, time
sys.dont_write_bytecode = True
sys.path[:0] = [{str(Path(__file__).parent)!r}]
def say(**found): print(json.dumps(found), flush=True)
"""

# Each "round" on its standard input: a thread waits for the lock that another one holds for 50 ms, ten times.
ROUNDS = """
from import_tables import import_slots, signal_actions
lock, waited_s = threading.Lock(), 0.0
begin, taken = threading.Semaphore(0), threading.Semaphore(0)
def holds():
    while True:
        begin.acquire()
        with lock:
            taken.release()
            time.sleep(0.05)
def wants():
    global waited_s
    taken.acquire()
    start = time.monotonic()
    with lock:
        waited_s += time.monotonic() - start
def one_round():
    for _ in range(10):
        thread = threading.Thread(target=wants, name="wants")
        thread.start()
        begin.release()
        thread.join()
threading.Thread(target=holds, name="holds", daemon=True).start()
one_round()
tables, actions = import_slots(), signal_actions()
say(ready=True)
for line in sys.stdin:
    waited_s = 0.0
    if line == "round\\n": one_round()
    after, actions_after = import_slots(), signal_actions()
    say(waited_s=waited_s, threads=threading.active_count(),
        changed=sorted({after[a][1] for a in tables if after.get(a) != tables[a]}),
        handlers=[n for n in actions if actions[n] != actions_after[n]])
sys.exit(5)
"""


class Program:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def says(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def asked(self, line: str) -> Any:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.says()

    def ends(self) -> int:
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(300)


@contextmanager
def program(python: str, folder: Path, code: str) -> Iterator[Program]:
    script = folder / "service.py"
    script.write_text(HEAD + code)
    process = subprocess.Popen(
        [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder,
        env=os.environ | {"LD_BIND_NOW": "1"},  # else import tables change by themselves
    )  # fmt: skip
    try:
        started = Program(process)
        assert started.says() == {"ready": True}
        yield started
    finally:
        process.kill()
        process.wait()


class Attach:
    """The command, from when it has said that it records."""

    def __init__(self, pid: int, *words: str, cwd: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gilprobe", "attach", *words, str(pid)],
            stderr=subprocess.PIPE, text=True, cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self.process.stderr
        self.said = self.process.stderr.readline()
        assert self.said.startswith(f"gilprobe: recording process {pid}"), self.said + self.process.stderr.read()

    def ended_by(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        return self.waited_for()

    def waited_for(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=300)
        return self.process.returncode, err


def refused(pid: int, *words: str, cwd: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "gilprobe", "attach", *words, str(pid)],
        capture_output=True, text=True, timeout=300, check=False, cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.returncode, done.stderr


def test_waits_of_a_running_program_are_seen_and_it_is_left_as_it_was(any_python: Python, tmp_path: Path) -> None:
    with program(any_python.executable, tmp_path, ROUNDS) as target:
        attach = Attach(target.pid, "-o", "r", cwd=tmp_path)
        during = target.asked("round")
        status, err = attach.ended_by(signal.SIGINT)
        after = target.asked("round")
        assert target.ends() == 5
    assert status == 0, err
    assert "Threads wait for a lock" in err
    assert "sem_clockwait" in during["changed"] or "sem_wait" in during["changed"], during["changed"]
    assert (after["changed"], after["handlers"], after["threads"]) == ([], [], during["threads"])
    profile = load(tmp_path / "r")
    assert {thread.name for thread in profile.threads} == {"MainThread", "holds", "wants"}
    wait = max((wait for wait in profile.waits if wait.kind == "lock"), key=lambda wait: wait.total_s)
    assert wait.waiter[0].function == "wants"
    assert wait.releasers[0].stack[0].function == "holds"
    assert wait.total_s == pytest.approx(during["waited_s"], rel=0.1, abs=0.03)


# Floating point in vector registers, system calls, and a digest of everything: all of it the same every time.
COMPUTES = """
def once(seed):
    digest, x = hashlib.sha256(str(seed).encode()), 0.5 + seed
    for i in range(20_000):
        x = math.fmod(math.sin(x) * 1e6 + i, 1e3)
        if i % 1000 == 0:
            digest.update(repr(x).encode() + bytes(str(seed), "ascii") * 999)
    return digest.hexdigest()
right = [once(seed) for seed in range(4)]
wrong, done, over = [], [0] * 4, False
def body(seed):
    while not over:
        if once(seed) != right[seed]: wrong.append(seed)
        done[seed] += 1
threads = [threading.Thread(target=body, args=(seed,)) for seed in range(3)]
for thread in threads: thread.start()
slept = []
def sleeps():
    while not over:
        start = time.monotonic()
        time.sleep(0.02)
        slept.append(time.monotonic() - start)
threads.append(threading.Thread(target=sleeps))
threads[-1].start()
say(ready=True)
sys.stdin.readline()
over = True
for thread in threads: thread.join()
say(wrong=wrong, done=min(done[:3]), too_short=[s for s in slept if s < 0.0199])
"""


def test_what_it_computes_is_right_however_often_it_is_interrupted(any_python: Python, tmp_path: Path) -> None:
    with program(any_python.executable, tmp_path, COMPUTES) as target:
        for number in range(5):
            process, folder = Attached(target.pid), tmp_path / f"r{number}"
            folder.mkdir()
            process.begin(folder, Options().variable())
            while not load(folder).threads:  # they join one by one, as soon as they have a core
                time.sleep(0.01)
            process.end()
            assert load(folder).threads
        found = target.asked("end")
    assert found["done"] > 0
    assert (found["wrong"], found["too_short"]) == ([], [])


def test_a_program_without_any_pause_is_asked_in_its_interpreters_loop(tmp_path: Path) -> None:
    code = "say(ready=True)\ntotal = 0\nwhile True:\n    total += 1\n"
    with program(sys.executable, tmp_path, code) as target:
        attach = Attach(target.pid, "-o", "r", "--for", "0.5", cwd=tmp_path)
        status, err = attach.waited_for()
    assert status == 0, err
    profile = load(tmp_path / "r")
    (thread,) = profile.threads
    assert thread.name == "MainThread"
    assert thread.cpu_s > 0
    assert thread.cpu_s + thread.runnable_s == pytest.approx(thread.wall_s, rel=0.1)


def lock_waiters(recording: Path) -> set[str]:
    """On a busy machine also those that met another in threading's own code."""
    return {wait.waiter[0].function for wait in load(recording).waits if wait.kind == "lock"}


def test_it_reports_when_the_program_ends_and_when_it_is_terminated_itself(tmp_path: Path) -> None:
    with program(sys.executable, tmp_path, ROUNDS) as target:
        ended = Attach(target.pid, "-o", "ended", cwd=tmp_path)
        target.asked("round")
        assert ended.ended_by(signal.SIGTERM)[0] == 0
        outlived = Attach(target.pid, "-o", "outlived", cwd=tmp_path)
        target.asked("round")
        assert target.ends() == 5
        status, err = outlived.waited_for()
    assert (status, "Threads wait for a lock" in err) == (0, True), err
    for name in ("ended", "outlived"):
        assert "wants" in lock_waiters(tmp_path / name)


def test_what_a_killed_attach_left_is_ended_by_another(tmp_path: Path) -> None:
    with program(sys.executable, tmp_path, ROUNDS) as target:
        attach = Attach(target.pid, "-o", "r", cwd=tmp_path)
        attach.process.kill()
        attach.process.communicate()
        target.asked("round")
        status, err = refused(target.pid, "-o", "s", cwd=tmp_path)
        assert (status, "being recorded already" in err, "attach --end" in err) == (125, True, True), err
        assert not (tmp_path / "s").exists()
        assert refused(target.pid, "--end", cwd=tmp_path) == (0, "")
        assert "is not being recorded" in refused(target.pid, "--end", cwd=tmp_path)[1]
        assert target.asked("round")["changed"] == []
    assert "wants" in lock_waiters(tmp_path / "r")


def test_what_cannot_be_attached_to_is_said_in_two_lines(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        status, err = refused(other.pid, cwd=tmp_path)
        other.kill()
    assert (status, err.splitlines()[0]) == (2, f"gilprobe: process {other.pid} is no CPython")
    status, err = refused(other.pid, cwd=tmp_path)
    assert (status, err.splitlines()[0]) == (2, f"gilprobe: there is no process {other.pid}")
    (tmp_path / "r").mkdir()
    with program(sys.executable, tmp_path, ROUNDS) as target:
        status, err = refused(target.pid, "-o", "r", cwd=tmp_path)
        assert (status, err.splitlines()[0]) == (2, f"gilprobe: {tmp_path}/r exists")
    assert not list(tmp_path.glob("*.gilprobe"))


def test_a_program_that_another_tracer_has_is_left_alone(tmp_path: Path) -> None:
    with program(sys.executable, tmp_path, ROUNDS) as target:
        tasks = [int(task.name) for task in Path(f"/proc/{target.pid}/task").iterdir()]
        traced = [StoppedThread(task) for task in tasks]
        for thread in traced:
            thread.stop()
        try:
            status, err = refused(target.pid, cwd=tmp_path)
        finally:
            for thread in traced:
                thread.let_go()
        assert (status, err.splitlines()[0]) == (125, f"gilprobe: process {target.pid} may not be traced")
        assert target.asked("round")["waited_s"] > 0.3
    assert not list(tmp_path.glob("*.gilprobe"))


def test_a_program_under_profile_is_not_recorded_twice(tmp_path: Path) -> None:
    script = tmp_path / "service.py"
    script.write_text(HEAD + ROUNDS)
    command = [sys.executable, "-m", "gilprobe", "profile", "-q", "-o", "p", "service.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as outer:
        target = Program(outer)
        assert target.says() == {"ready": True}
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        (child,) = [p for p in children if Path(f"/proc/{p}/cmdline").read_bytes().split(b"\0")[1] == b"service.py"]
        with pytest.raises(GilprobeError, match="being recorded already"):
            Attached(int(child)).begin(tmp_path, "rate=0")
        assert target.ends() == 5
    assert load(tmp_path / "p").waits
