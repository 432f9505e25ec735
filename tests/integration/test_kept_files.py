"""A thread whose waits are often looked at keeps its schedstat open: the script's own files are none the wiser."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from gilprobe.launch.target import Options, environment
from tests.pythons import Python

# Two threads that wait for each other until both have a file of ours open; then `between`, and some more waits.
SCRIPT = """
import json, os, threading, time

def ours():
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if path.endswith("/schedstat") and int(name) >= 200:  # below: open for a moment only
            found.append(int(name))
    return sorted(found)

lock, go_on, turns = threading.Lock(), threading.Event(), 0

def works():
    global turns
    while True:
        with lock:
            time.sleep(0.001)
            turns += 1
        if go_on.is_set():
            return

def waits(count):
    wanted = turns + count
    while turns < wanted:
        time.sleep(0.001)

threads = [threading.Thread(target=works) for _ in range(2)]
for thread in threads:
    thread.start()
while len(ours()) < 2:
    time.sleep(0.001)
kept, said = ours(), {}
BETWEEN
waits(100)
go_on.set()
for thread in threads:
    thread.join()
said["kept"] = kept
AFTER
print(json.dumps(said))
"""


def told(python: Python, folder: Path, between: str, after: str) -> dict[str, object]:
    folder.mkdir()
    script = SCRIPT.replace("BETWEEN", between).replace("AFTER", after)
    variables = environment(folder, Options(rate_hz=0))
    done = subprocess.run(
        [python.executable, "-c", script], env=variables, capture_output=True, text=True, timeout=300, check=True
    )
    said: dict[str, object] = json.loads(done.stdout)
    return said


def test_their_numbers_are_high_and_free_again_when_the_thread_ends(any_python: Python, tmp_path: Path) -> None:
    low = "said['low'] = os.open('/dev/null', os.O_RDONLY)"
    end = "said['left'] = len(ours())"  # the main thread has waited, too
    said = told(any_python, tmp_path / "r", low, end)
    assert min(said["kept"]) >= 200 > said["low"] and said["left"] <= 1  # type: ignore[call-overload, operator]


def test_what_the_script_opens_by_their_numbers_is_neither_read_nor_closed(any_python: Python, tmp_path: Path) -> None:
    """Also a pipe, which a read would empty."""
    between = """
lock.acquire()
asleep = 0  # until both wait for it: in the middle of a look, a file of ours is open by a low number, too
while asleep < 20:
    time.sleep(0.001)
    states = [open(f"/proc/self/task/{thread.native_id}/stat").read().rsplit(") ")[1][0] for thread in threads]
    asleep = asleep + 1 if states == ["S", "S"] else 0
os.closerange(3, 1024)
reads, writes = os.pipe()
os.write(writes, b"mine")
for number in kept:
    os.dup2(reads, number)
lock.release()
"""
    end = "said['mine'] = [os.readlink(f'/proc/self/fd/{n}').startswith('pipe:') for n in kept]\n" + (
        "said['text'] = os.read(reads, 9).decode()"
    )
    said = told(any_python, tmp_path / "r", between, end)
    assert set(said["mine"]) == {True} and said["text"] == "mine"


def test_a_child_has_none(any_python: Python, tmp_path: Path) -> None:
    between = """
import subprocess, sys
mine = [os.readlink(f"/proc/self/fd/{number}") for number in kept]
program = f"import os; print([n for n in {kept} if os.path.exists(f'/proc/self/fd/{{n}}') and "
program += f"os.readlink(f'/proc/self/fd/{{n}}') in {mine}])"  # it may keep its own
variables = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
said["executed"] = subprocess.check_output([sys.executable, "-c", program], close_fds=False, env=variables, text=True)
reads, writes = os.pipe()
import warnings; warnings.simplefilter("ignore")
if os.fork() == 0:
    os.write(writes, json.dumps(ours()).encode())
    os._exit(0)
said["forked"] = os.read(reads, 999).decode()
os.wait()
"""
    said = told(any_python, tmp_path / "r", between, "")
    assert said["executed"] == "[]\n" and said["forked"] == "[]"


def test_where_few_are_allowed_the_script_has_them_all(any_python: Python, tmp_path: Path) -> None:
    script = (
        SCRIPT.replace("while len(ours()) < 2:", "while turns < 200:")
        .replace("BETWEEN", "")
        .replace("AFTER", "said['kept'] = kept")
    )
    script = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))" + script
    (tmp_path / "r").mkdir()
    variables = environment(tmp_path / "r", Options(rate_hz=0))
    done = subprocess.run(
        [any_python.executable, "-c", script], env=variables, capture_output=True, text=True, timeout=300, check=True
    )
    assert json.loads(done.stdout) == {"kept": []}
