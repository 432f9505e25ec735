"""Spans of the program's own: what happened inside counts for them, and for nothing else."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pythons import ROOT, Python

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment
from gilprobe.model import Profile, Span

HEAD = """
import json, os, signal, sys, threading, time
sys.path.insert(0, {root!r})
sys.dont_write_bytecode = True
import gilprobe
def in_threads(*functions):
    threads = [threading.Thread(target=f, name=f.__name__) for f in functions]
    for t in threads: t.start()
    for t in threads: t.join()
"""


@dataclass
class Run:
    profile: Profile
    said: Any

    def span(self, name: str, thread: str | None = None) -> Span:
        (found,) = [s for s in self.profile.spans if s.name == name and thread in (None, s.thread)]
        return found


def run(python: Python, code: str, folder: Path, *, status: int = 0, **options: Any) -> Run:
    recording = folder / "r"
    recording.mkdir()
    script = folder / "script.py"
    script.write_text(HEAD.format(root=str(ROOT)) + code)
    done = subprocess.run(
        [python.executable, str(script)],
        env=environment(recording, Options(**{"rate_hz": 0, **options})),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return Run(load(recording), json.loads(done.stdout) if done.stdout else None)


# The lock is held for 20 ms while the waiter waits for it in one span, and takes it freely in another.
CONTENDED = """
lock, ready = threading.Lock(), threading.Event()
waited_s = 0.0
def holder():
    for _ in range(10):
        lock.acquire(); ready.set(); time.sleep(0.02); lock.release(); done.wait(); done.clear()
done = threading.Event()
def waiter():
    global waited_s
    for _ in range(10):
        ready.wait(); ready.clear()
        with gilprobe.span("outer"):
            with gilprobe.span("contended"):
                start = time.monotonic(); lock.acquire(); waited_s += time.monotonic() - start
            lock.release()
            with gilprobe.span("free"):
                lock.acquire(); lock.release()
        done.set()
in_threads(holder, waiter)
print(json.dumps(waited_s))
"""


def test_a_wait_counts_for_the_spans_it_was_in_and_for_no_other(any_python: Python, tmp_path: Path) -> None:
    made = run(any_python, CONTENDED, tmp_path)
    for name in ("contended", "outer"):
        span = made.span(name, "waiter")
        assert span.count == 10
        assert abs(span.wait_s["lock"] + span.wake_delay_s - made.said) < 0.25 * made.said
        assert span.shares["lock"] > 0.2
    free = made.span("free", "waiter")
    assert free.count == 10 and free.wait_s.get("lock", 0.0) == 0.0
    assert made.span("contended").inside == ("outer",)
    waits = [wait for wait in made.profile.waits if wait.kind == "lock" and "waiter" in wait.threads]
    assert waits and all(set(wait.spans) == {"contended"} for wait in waits)


CPU = """
def burn(s):
    end = time.thread_time() + s
    while time.thread_time() < end: pass
@gilprobe.span("function")
def function(): burn(0.03); return 5
@gilprobe.span("generator")
def generator():
    got = yield 1
    burn(0.03)
    return got
@gilprobe.span("coroutine")
async def coroutine(): burn(0.03); return 7
@gilprobe.span("recursion")
def recursion(n):
    burn(0.01)
    if n: recursion(n - 1)
assert function() == 5 and function.__name__ == "function"
items = generator(); next(items)
try: items.send(6)
except StopIteration as stop: assert stop.value == 6
try: coroutine().send(None)
except StopIteration as stop: assert stop.value == 7
recursion(4)
try:
    with gilprobe.span("raises"): 1 / 0
except ZeroDivisionError: pass
idle = gilprobe.span("idle")
with idle: time.sleep(0.05)
with idle:
    with idle: time.sleep(0.05)
deep = [gilprobe.span(f"deep {i}") for i in range(40)]
for s in deep: s.__enter__()
for s in reversed(deep): s.__exit__(None, None, None)
with gilprobe.span("\\ud800 <script>" + "x" * 5000): pass
with gilprobe.span("after"): pass
for i in range(3000):
    with gilprobe.span(f"item {i}"): pass
"""


def test_decorators_recursion_depth_and_many_names(any_python: Python, tmp_path: Path) -> None:
    made = run(any_python, CPU, tmp_path)
    for name in ("function", "generator", "coroutine"):
        assert made.span(name).count == 1
        assert 0.03 <= made.span(name).cpu_s < 0.1
    recursion = made.span("recursion")
    assert recursion.count == 5
    assert 0.05 <= recursion.cpu_s <= recursion.wall_s + 1e-4, "a recursion's time counts once"
    assert recursion.max_s <= recursion.wall_s
    idle = made.span("idle")
    assert idle.count == 3 and idle.cpu_s < 0.05
    assert 0.09 < idle.sleep_io_s < 0.5 and idle.wait_s == {}
    assert made.span("raises").count == 1 and made.span("after").count == 1
    other = made.span("(other spans)")
    assert other.count > 1900
    assert sum(span.count for span in made.profile.spans if span.name.startswith("item")) + other.count > 2990
    assert any("names of" in item.what for item in made.profile.not_observed)
    assert not any(span.open for span in made.profile.spans)


def test_single_spans_are_kept_with_events(any_python: Python, tmp_path: Path) -> None:
    from gilprobe.recording import read_folder

    code = "for i in range(3):\n    with gilprobe.span('a'): time.sleep(0.01)\n"
    run(any_python, code, tmp_path, events=True)
    (recording,) = read_folder(tmp_path / "r")
    (events,) = recording.span_events
    assert len(events) == 3 and (events["duration_ns"] > 9_000_000).all()
    assert recording.spans[int(events["span_id"][0])].name == "a"
    assert (events["start_ns"][1:] >= events["start_ns"][:-1] + events["duration_ns"][:-1]).all()


def test_a_killed_process_leaves_its_open_spans_with_the_wait_they_are_in(any_python: Python, tmp_path: Path) -> None:
    code = """
lock = threading.Lock(); lock.acquire()
def stuck():
    with gilprobe.span("outer"):
        with gilprobe.span("stuck"): lock.acquire()
thread = threading.Thread(target=stuck, daemon=True)
thread.start()
def waits():
    with open(f"/proc/self/task/{thread.native_id}/syscall") as file: return file.read().split()[0] == "202"  # futex
while not waits(): time.sleep(0.01)
time.sleep(0.3)
os.kill(os.getpid(), signal.SIGKILL)
"""
    made = run(any_python, code, tmp_path, status=-9)
    for name in ("stuck", "outer"):
        span = made.span(name)
        assert span.open and span.count == 1
        assert span.wait_s["lock"] > 0.1 and span.wall_s >= span.wait_s["lock"]


def test_a_forked_child_and_other_threads_end_no_span_of_this_one(any_python: Python, tmp_path: Path) -> None:
    code = """
a = gilprobe.span("parent's")
a.__enter__()
t = threading.Thread(target=a.__exit__, args=(None, None, None)); t.start(); t.join()
pid = os.fork()
if pid == 0:
    with gilprobe.span("child's"): pass
    a.__exit__(None, None, None)
    os._exit(0)
os.waitpid(pid, 0)
time.sleep(0.05)
a.__exit__(None, None, None)
"""
    made = run(any_python, code, tmp_path)
    assert len(made.profile.processes) == 2
    mine, childs = made.span("parent's"), made.span("child's")
    assert mine.count == childs.count == 1
    assert mine.pid != childs.pid and mine.wall_s > 0.05


def test_atomic_stalls_count_for_the_span_they_are_in(free_threaded_python: Python, tmp_path: Path) -> None:
    code = """
class Config: pass
shared = Config()
shared.value = object()
gate = threading.Barrier(2)
def fight():
    gate.wait()
    with gilprobe.span("shared"):
        for _ in range(3000000): shared.value
    mine = Config(); mine.value = object()
    gate.wait()
    with gilprobe.span("own"):
        for _ in range(3000000): mine.value
def one(): fight()
def two(): fight()
in_threads(one, two)
"""
    made = run(free_threaded_python, code, tmp_path, rate_hz=200)
    for thread in ("one", "two"):
        assert made.span("own", thread).shares.get("atomic-stall", 0.0) == 0.0
    ready_s, cpu_s = (sum(getattr(thread, name) for thread in made.profile.threads) for name in ("runnable_s", "cpu_s"))
    stalled = [made.span("shared", thread).atomic_stall_s > 0 for thread in ("one", "two")]
    if not all(stalled) and ready_s > 0.5 * cpu_s:
        pytest.skip("NO SECOND CORE: the threads hardly ever ran at once")
    assert all(stalled)
