"""gilprobe.profile() in a program that runs already: every later wait is seen, and afterwards all is as before."""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from pythons import ROOT, Python

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment
from gilprobe.recording import read_folder

HEAD = f"""
import json, os, signal, sys, threading, time
sys.dont_write_bytecode = True
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
import gilprobe
path = sys.argv[1]
def say(**found): print(json.dumps(found))
"""


def run(python: Python, code: str, folder: Path, *, env: dict[str, str] | None = None, status: int = 0) -> Any:
    script = folder / "script.py"
    script.write_text(HEAD + code)
    done = subprocess.run(
        [python.executable, str(script), str(folder / "r")],
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


# 50 threads run before the recording begins. In each round all of them wait for one lock, also after it has ended.
FIFTY = """
from import_tables import import_slots, signal_actions
import ctypes, _ctypes
THREADS, ROUNDS = 50, 3
lock = threading.Lock()
pipes = [os.pipe() for _ in range(THREADS)]
arrived = [0] * THREADS
waited_s = [0.0] * THREADS
def worker(i):
    while os.read(pipes[i][0], 1) == b"+":
        start = time.monotonic()
        arrived[i] += 1
        lock.acquire()
        waited_s[i] += time.monotonic() - start
        lock.release()
def one_round():
    before = sum(arrived)
    lock.acquire()
    for _, end in pipes: os.write(end, b"+")
    while sum(arrived) < before + THREADS: time.sleep(0.001)
    while any(not is_in(t, 202) for t in threads): time.sleep(0.001)  # none still spins: futex
    time.sleep(0.05)
    lock.release()
    while lock.locked() or any(not is_in(t, 0) for t in threads): time.sleep(0.001)  # read
def is_in(thread, call):
    with open(f"/proc/self/task/{thread.native_id}/syscall") as file: return file.read().split()[0] == str(call)
threads = [threading.Thread(target=worker, args=(i,), name=f"worker {i}") for i in range(THREADS)]
for t in threads: t.start()
signal.signal(signal.SIGUSR1, lambda *_: None)
one_round()
one_round()
waited_s[:] = [0.0] * THREADS
tables, actions = import_slots(), signal_actions()
with gilprobe.profile(path, rate_hz=RATE) as recording:
    for _ in range(ROUNDS): one_round()
    truth_s = sum(waited_s)
    during = import_slots()
after, actions_after = import_slots(), signal_actions()
one_round()
for _, end in pipes: os.write(end, b"-")
for t in threads: t.join()
say(
    truth_s=truth_s, path=str(recording.path), slots=len(tables),
    rewritten=sorted({during[a][1] for a in tables if during[a][2] != tables[a][2]}),
    left=[tables[a][:2] for a in tables if after.get(a) != tables[a]],
    handlers=[n for n in actions if actions[n] != actions_after[n]],
)
"""


@pytest.mark.parametrize("rate_hz", [0, 100])
def test_every_wait_of_fifty_running_threads_and_all_tables_as_before(
    any_python: Python, tmp_path: Path, rate_hz: int
) -> None:
    # Bound at the start: what the loader would bind late changes in any program.
    said = run(any_python, FIFTY.replace("RATE", str(rate_hz)), tmp_path, env={"LD_BIND_NOW": "1"})
    assert said["slots"] > 500
    assert {"sem_wait", "sem_post", "pthread_cond_timedwait", "sched_yield"} <= set(said["rewritten"])
    assert said["left"] == [] and said["handlers"] == []
    (recording,) = read_folder(Path(said["path"]))
    counts: dict[str, int] = defaultdict(int)
    total_ns = 0
    for wait in recording.waits:
        stack = recording.stacks[int(wait["stack_id"])]
        if recording.codes[stack.python[0][0]].qualname == "worker" and wait["op"] in (1, 7) and wait["subject"] != 1:
            counts[recording.threads[int(wait["thread"])].name] += int(wait["count"]) if wait["op"] == 1 else 0
            total_ns += int(wait["total_ns"])
    assert set(counts) == {f"worker {i}" for i in range(50)}
    if any_python.free_threaded:  # one that is woken may find the lock taken by another, and waits again
        assert min(counts.values()) >= 3
    else:
        assert set(counts.values()) == {3}
    assert 0.5 * said["truth_s"] < total_ns / 1e9 <= 1.02 * said["truth_s"]
    profile = load(said["path"])
    assert profile.processes[0].end == "stop"
    assert "MainThread" in {thread.name for thread in profile.threads}


LIBRARY = """
#include <pthread.h>
#include <unistd.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
void hold(unsigned us) { pthread_mutex_lock(&mutex); usleep(us); pthread_mutex_unlock(&mutex); }
"""


@pytest.mark.parametrize("flags", [["-Wl,-z,now", "-Wl,-z,relro"], ["-Wl,-z,lazy"]], ids=["now", "lazy"])
def test_a_library_loaded_meanwhile_is_seen_too(any_python: Python, tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "hold.c").write_text(LIBRARY)
    subprocess.run(["gcc", "-shared", "-fPIC", *flags, "-o", tmp_path / "hold.so", tmp_path / "hold.c"], check=True)
    code = f"""
import ctypes, _ctypes
with gilprobe.profile(path) as recording:
    library = ctypes.CDLL({str(tmp_path / "hold.so")!r})
    waited_s = []
    def waits():
        start = time.monotonic(); library.hold(0); waited_s.append(time.monotonic() - start)
    while max(waited_s, default=0.0) < 0.05:  # on a busy machine the second may come late
        first = threading.Thread(target=library.hold, args=(100_000,)); first.start()
        time.sleep(0.02)
        second = threading.Thread(target=waits); second.start()
        first.join(); second.join()
    other = ctypes.CDLL({str(tmp_path / "other.so")!r})
    other.hold(1)
    handle = other._handle
    del other
    _ctypes.dlclose(handle)
library.hold(1)
say(path=str(recording.path), longest_s=max(waited_s))
"""
    (tmp_path / "other.so").write_bytes((tmp_path / "hold.so").read_bytes())
    said = run(any_python, code, tmp_path)
    profile = load(said["path"])
    (wait,) = [wait for wait in profile.waits if wait.kind == "native" and "hold.so" in wait.name]
    assert 0.02 < wait.max_s <= said["longest_s"]


def test_libraries_come_and_go_while_recordings_begin_and_end(any_python: Python, tmp_path: Path) -> None:
    (tmp_path / "hold.c").write_text(LIBRARY)
    for name in ("a.so", "b.so"):
        relro = ["-Wl,-z,now", "-Wl,-z,relro"]
        subprocess.run(["gcc", "-shared", "-fPIC", *relro, "-o", tmp_path / name, tmp_path / "hold.c"], check=True)
    code = f"""
import ctypes, _ctypes
from import_tables import import_slots
over = False
def come_and_go(path):
    while not over:
        library = ctypes.CDLL(path)
        library.hold(1)
        _ctypes.dlclose(library._handle)
def churn():
    while not over:
        thread = threading.Thread(target=int); thread.start(); thread.join()
bodies = [lambda: come_and_go({str(tmp_path / "a.so")!r}), lambda: come_and_go({str(tmp_path / "b.so")!r}), churn]
before = import_slots()
threads = [threading.Thread(target=body) for body in bodies]
for t in threads: t.start()
for number in range(40):
    with gilprobe.profile(path, force=True, rate_hz=100 * (number % 2)): time.sleep(0.003 * (number % 4))
over = True
for t in threads: t.join()
after = import_slots()
say(left=[before[a][:2] for a in before if after.get(a) != before[a]])
"""
    assert run(any_python, code, tmp_path, env={"LD_BIND_NOW": "1"})["left"] == []


def test_recordings_one_after_the_other_in_one_program(any_python: Python, tmp_path: Path) -> None:
    code = """
lock, over = threading.Lock(), False
def work():
    while not over:
        with lock: time.sleep(0.001)
        time.sleep(0.001)
def compute():
    while not over: sum(range(1000))
threads = [threading.Thread(target=f, name=f.__name__) for f in (work, work, compute)]
for t in threads: t.start()
paths = []
for number in range(3):
    with gilprobe.profile(f"{path}{number}") as recording:
        start = time.process_time()
        with gilprobe.span(f"part {number}"):
            while time.process_time() < start + 0.3: time.sleep(0.05)
        late = threading.Thread(target=time.sleep, args=(0.01,), name="late"); late.start(); late.join()
        if os.fork() == 0: os._exit(0)
        os.wait()
    paths.append(str(recording.path))
over = True
for t in threads: t.join()
say(paths=paths)
"""
    for number, path in enumerate(run(any_python, code, tmp_path)["paths"]):
        profile = load(path)
        assert [process.end for process in profile.processes] == ["stop", "quick_exit"]
        assert [span.name for span in profile.spans] == [f"part {number}"]
        names = [thread.name for thread in profile.threads if thread.pid == profile.processes[0].pid]
        assert sorted(names) == ["MainThread", "compute", "late", "work", "work"]
        assert any(wait.kind == "lock" for wait in profile.waits)
        (compute,) = [thread for thread in profile.threads if thread.name == "compute"]
        assert 0 < compute.cpu_s <= compute.wall_s < profile.meta["wall_s"]
        assert profile.meta["samples"] > 0


def test_a_wait_goes_into_the_recording_it_began_in_and_into_no_later_one(any_python: Python, tmp_path: Path) -> None:
    code = """
lock = threading.Lock(); lock.acquire()
began = threading.Event()
def stuck(): began.set(); lock.acquire()
thread = threading.Thread(target=stuck, name="stuck")
def waits():
    while True:
        with open(f"/proc/self/task/{thread.native_id}/syscall") as file:
            if file.read().split()[0] == "202": return  # futex
with gilprobe.profile(path + "1"):
    thread.start(); began.wait(); waits(); time.sleep(0.1)
with gilprobe.profile(path + "2"):
    time.sleep(0.1)
with gilprobe.profile(path + "3"):
    time.sleep(0.1); lock.release(); thread.join()
say()
"""
    run(any_python, code, tmp_path)
    first, second, third = (load(tmp_path / f"r{number}") for number in (1, 2, 3))
    (stuck,) = [thread for thread in first.threads if thread.name == "stuck"]
    assert stuck.open_wait and stuck.open_wait.kind == "lock" and 0.05 < stuck.open_wait.waited_s < 60
    assert not any(wait.kind == "lock" for wait in (*second.waits, *third.waits))
    unseen = "1 threads of process"
    assert [any(unseen in item.what for item in p.not_observed) for p in (first, second, third)] == [False, True, False]


def test_what_cannot_be_done_is_said_and_leaves_the_program_as_it_was(any_python: Python, tmp_path: Path) -> None:
    code = """
from gilprobe.errors import GilprobeError
said = []
def refused(make):
    try: make()
    except GilprobeError as error: said.append(error.message)
    else: said.append("done")
with gilprobe.profile(path) as first:
    refused(lambda: gilprobe.profile(path + "2").start())
refused(lambda: gilprobe.profile(path).start())
refused(lambda: gilprobe.profile(path + "/nowhere/r").start())
refused(lambda: gilprobe.profile("/proc/r").start())
refused(lambda: gilprobe.profile(path, rate_hz=-1))
first.stop()
with gilprobe.profile(path, force=True): pass
say(said=said, left=os.path.exists(path + "2"))
"""
    said = run(any_python, code, tmp_path)
    assert not said["left"]
    twice, exists, nowhere, unwritable, rate = said["said"]
    assert twice == "this program is being recorded already"
    assert exists.endswith("/r exists") and "nowhere does not exist" in nowhere
    assert "/proc/r cannot be made" in unwritable or "does not exist" in unwritable
    assert rate == "rate_hz is -1"
    assert load(tmp_path / "r").processes[0].end == "stop"


def test_a_program_under_gilprobe_profile_is_not_recorded_twice(any_python: Python, tmp_path: Path) -> None:
    (tmp_path / "outer").mkdir()
    env = environment(tmp_path / "outer", Options(rate_hz=0))
    errors = run(any_python, "gilprobe.profile(path).start()", tmp_path, env=env, status=1)
    assert "this program is being recorded already" in errors
    assert load(tmp_path / "outer").processes[0].end == "exit"


def test_the_default_name_is_the_scripts(any_python: Python, tmp_path: Path) -> None:
    said = run(
        any_python, f"os.chdir({str(tmp_path)!r})\nwith gilprobe.profile() as r: pass\nsay(p=str(r.path))", tmp_path
    )
    path = Path(said["p"])
    assert path.parent == tmp_path and path.name.startswith("script.2") and path.suffix == ".gilprobe"
    assert load(path).processes[0].argv
