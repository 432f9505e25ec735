"""What the standard library and its C libraries wait for, as programs use them, with twins."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from commands import gilprobe
from pythons import Python

from gilprobe.analysis import cures, load
from gilprobe.analysis.contention import MANAGERS_LOCK, TRANSACTION
from gilprobe.launch.target import Options, environment
from gilprobe.model import Profile

HOLD_S = 0.3

TRANSACTIONS = f"""
import sqlite3, sys, threading, time
def open_database(name):
    return sqlite3.connect(name, timeout=60, isolation_level=None)
def write(name, held, comes):
    database = open_database(name)
    database.execute("begin immediate")
    held.set()
    comes.wait()
    time.sleep({HOLD_S})
    database.execute("commit")
def main():
    names = ["one.db", "one.db" if sys.argv[1] == "same" else "other.db"]
    for name in set(names):
        open_database(name).execute("create table numbers (number)")
    database = open_database(names[1])
    for _ in range(20):  # on a busy machine the second may come late
        held, comes = threading.Event(), threading.Event()
        writer = threading.Thread(target=write, args=(names[0], held, comes))
        writer.start()
        held.wait()
        comes.set()
        start = time.monotonic()
        database.execute("insert into numbers values (1)")
        waited_s = time.monotonic() - start
        writer.join()
        if waited_s > 0.8 * {HOLD_S} or names[0] != names[1]: break
main()
"""

ALARM = """
import faulthandler, os, time
faulthandler.dump_traceback_later(60, file=open(os.devnull, "w"))
time.sleep(0.3)
if __name__ == "__main__":
    faulthandler.cancel_dump_traceback_later()
"""

PROCESS_POOL = """
import time
from concurrent.futures import ProcessPoolExecutor
def work(number):
    time.sleep(0.01)
if __name__ == "__main__":
    with ProcessPoolExecutor(3) as pool:
        list(pool.map(work, range(30)))
"""

PROCESS_LOCK = f"""
import multiprocessing, time
def hold(lock, held, comes):
    with lock:
        held.set()
        comes.wait()
        time.sleep({HOLD_S})
if __name__ == "__main__":
    shared_lock, held, comes = multiprocessing.Lock(), multiprocessing.Event(), multiprocessing.Event()
    for _ in range(20):  # on a busy machine the second may come late
        held.clear(), comes.clear()
        holder = multiprocessing.Process(target=hold, args=(shared_lock, held, comes))
        holder.start()
        held.wait()
        comes.set()
        start = time.monotonic()
        with shared_lock:
            waited_s = time.monotonic() - start
        holder.join()
        if waited_s > 0.8 * {HOLD_S}: break
"""

MANAGED = PROCESS_LOCK.replace("multiprocessing.Lock()", "multiprocessing.Manager().Lock()")

DAEMONS = """
import queue, sys, threading, time
jobs, lock = queue.Queue(), threading.Lock()
def work():
    if sys.argv[1] == "idle":
        jobs.get()
    else:
        lock.acquire()
lock.acquire()
for number in range(6):
    threading.Thread(target=work, daemon=True).start()
def waits(thread):
    with open(f"/proc/self/task/{thread.native_id}/syscall") as file: return file.read().split()[0] == "202"  # futex
while not all(waits(thread) for thread in threading.enumerate()[1:]): time.sleep(0.01)
time.sleep(0.2)
"""


def profile(python: Python, folder: Path, text: str, *words: str) -> Profile:
    script = folder / "program.py"
    script.write_text(text)
    (folder / "recording").mkdir()
    variables = environment(folder / "recording", Options())
    subprocess.run([python.executable, script, *words], env=variables, check=True, timeout=300, cwd=folder)
    return load(folder / "recording")


def contended_s(profile: Profile, kind: str) -> float:
    return sum(wait.contended_s for wait in profile.waits if wait.kind == kind)


def test_a_connection_that_sleeps_for_anothers_transaction_waits_for_it(any_python: Python, tmp_path: Path) -> None:
    found = profile(any_python, tmp_path, TRANSACTIONS, "same")
    (wait,) = (wait for wait in found.waits if wait.kind == "native" and wait.name == TRANSACTION)
    assert wait.waiter[0].function == "main"
    assert wait.total_s > 0.5 * HOLD_S
    assert "PRAGMA journal_mode=WAL" in cures.of_wait([wait])


def test_twin_that_writes_another_file_waits_for_none(any_python: Python, tmp_path: Path) -> None:
    found = profile(any_python, tmp_path, TRANSACTIONS, "other")
    assert not any(wait.name == TRANSACTION for wait in found.waits)


def test_the_alarm_of_faulthandler_only_idles(any_python: Python, tmp_path: Path) -> None:
    for text in (ALARM, ALARM.replace("__main__", "never")):  # called off, and still set at the end
        folder = tmp_path / str(len(text))
        folder.mkdir()
        found = profile(any_python, folder, text)
        (alarm,) = (thread for thread in found.threads if thread.tid != thread.pid)
        assert sum(alarm.wait_s.values()) < 0.05, alarm
        assert alarm.idle_s["condition"] > 0


def test_workers_of_a_process_pool_wait_for_jobs_not_for_a_lock(any_python: Python, tmp_path: Path) -> None:
    found = profile(any_python, tmp_path, PROCESS_POOL)
    waits = [wait for wait in found.waits if any(frame.function == "_process_worker" for frame in wait.waiter)]
    gets = [wait for wait in waits if len(wait.waiter) > 1 and wait.waiter[1].function == "Queue.get"]
    assert gets
    assert {wait.kind for wait in gets if wait.object_type == ""} <= {"queue", "gil"}


def test_a_lock_between_processes_is_named_as_the_program_does(any_python: Python, tmp_path: Path) -> None:
    found = profile(any_python, tmp_path, PROCESS_LOCK)
    (wait,) = (wait for wait in found.waits if wait.kind == "lock" and wait.contended_s > 0.5 * HOLD_S)
    assert wait.name == "shared_lock in <module>"
    assert contended_s(found, "native") < 0.1 * HOLD_S


def test_a_lock_that_a_manager_serves_is_told_as_one(any_python: Python, tmp_path: Path) -> None:
    found = profile(any_python, tmp_path, MANAGED)
    waits = [wait for wait in found.waits if wait.kind == "lock" and wait.contended_s > 0.5 * HOLD_S]
    assert waits and all(wait.name.startswith(MANAGERS_LOCK) for wait in waits), waits
    assert "multiprocessing.Lock" in cures.of_wait(waits)


@pytest.mark.parametrize(("how", "lines"), [("idle", 0), ("locked", 6)])
def test_idle_workers_at_the_end_are_counted_and_those_that_hang_are_named(
    any_python: Python, tmp_path: Path, how: str, lines: int
) -> None:
    profile(any_python, tmp_path, DAEMONS, how)
    said = gilprobe("report", tmp_path / "recording", cwd=tmp_path).stdout
    assert said.count("still waiting at the end") == lines, said
    assert ("at the end: 6 more threads" in said) == (how == "idle")


STOPPED_AT_EXIT = """
import threading, time
def work(count=0):
    while True:
        count += 1
for number in range(2):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.5)
slow = Slow()
"""


def test_daemon_threads_that_the_end_of_the_interpreter_stopped_do_not_hang(
    free_threaded_python: Python, tmp_path: Path
) -> None:
    found = profile(free_threaded_python, tmp_path, STOPPED_AT_EXIT)
    assert any(thread.open_wait and thread.open_wait.kind == "stop-the-world" for thread in found.threads)
    assert not [finding.title for finding in found.findings if "Still waiting" in finding.title]


def test_a_script_from_standard_input_is_profiled(tmp_path: Path) -> None:
    done = gilprobe("profile", "-o", "run", "-", "word", cwd=tmp_path, input="import sys; print(sys.argv)")
    assert (done.returncode, done.stdout) == (0, "['-', 'word']\n"), done.stderr
    assert load(tmp_path / "run").processes[0].argv[-2:] == ("-", "word")
