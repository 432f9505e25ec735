"""A failing schedule is saved and reproduced in a fresh process; an edit elsewhere does not matter, one inside does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("click", reason="the command line needs click, which is not installed")

SUBJECT = """
class Counter:
    def __init__(self):
        self._n = 0

    def inc(self):
        self._n += 1

    def get(self):
        return self._n
"""
MAIN = "from gilprobe.cli.explore import explore; explore()"
ROOT = Path(__file__).parents[3]


def gilprobe(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {MAIN}", *args],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def saved(folder: Path) -> str:
    (folder / "subject.py").write_text(SUBJECT)
    done = gilprobe(folder, "subject:Counter")
    assert done.returncode == 1, done.stderr
    assert "racing pair" in done.stdout
    (path,) = (folder / "explore-replays").iterdir()
    return str(path)


def test_a_fresh_process_reproduces_it(tmp_path: Path) -> None:
    again = gilprobe(tmp_path, "--replay", saved(tmp_path))
    assert again.returncode == 1
    assert "FAILED (linearizability) with 1 preemption" in again.stdout


BODIES = """
import functools

class Pair:
    def __init__(self):
        self.a = self.b = 0

def adder(name):
    def add(pair):
        setattr(pair, name, getattr(pair, name) + 1)
    return add

def add(name, pair):
    adder(name)(pair)

def right(pair):
    assert pair.b == 2 or pair.a

ALL = [adder("a"), adder("b")]
PARTS = [functools.partial(add, "a"), functools.partial(add, "b")]
"""
MAKE = (
    "import bodies, gilprobe.explore as e; b = bodies.{0}[1]; "
    "print(e.run(b, b, state=bodies.Pair, final=bodies.right, replay_dir='.').replay_path)"
)
AGAIN = "import sys, gilprobe.explore as e; r = e.replay(sys.argv[1]); print(r.verdict, r.oracle)"


@pytest.mark.parametrize("kind", ["ALL", "PARTS"])
def test_bodies_without_a_name_are_found_by_what_they_hold(tmp_path: Path, kind: str) -> None:
    (tmp_path / "bodies.py").write_text(BODIES)

    def python(*args: str) -> str:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
        done = subprocess.run([sys.executable, "-c", *args], cwd=tmp_path, env=env, capture_output=True, text=True,
                              timeout=60)  # fmt: skip
        return done.stdout.strip() or done.stderr

    assert python(AGAIN, python(MAKE.format(kind))) == "FAILED invariant"


def test_an_edit_elsewhere_in_the_file_does_not_matter(tmp_path: Path) -> None:
    path = saved(tmp_path)
    (tmp_path / "subject.py").write_text("import os\n\ndef other():\n    return os.sep\n" + SUBJECT)
    assert gilprobe(tmp_path, "--replay", path).returncode == 1


def test_an_edit_of_the_code_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    (tmp_path / "subject.py").write_text(SUBJECT.replace("+= 1", "+= 2"))
    done = gilprobe(tmp_path, "--replay", path)
    assert done.returncode == 2
    assert "Counter.inc" in done.stderr and "was changed" in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [(["nowhere:Class"], 2, "cannot import nowhere"), (["subject:Nothing"], 2, "has no Nothing"),
     ([], 2, "nothing to explore"), (["broken.py:Class"], 2, "importing broken.py failed: SyntaxError"),
     (["unmade:Class"], 2, "cannot be made: ValueError: not today"),
     (["--replay", "subject.py"], 2, "is not a replay file")],
)  # fmt: skip
def test_what_cannot_be_done_is_said(tmp_path: Path, args: list[str], status: int, said: str) -> None:
    (tmp_path / "subject.py").write_text(SUBJECT)
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "unmade.py").write_text(
        "class Class:\n    def __init__(self): raise ValueError('not today')\n    def f(self): pass\n"
    )
    done = gilprobe(tmp_path, *args)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr


def test_an_uncontrolled_call_ends_with_4(tmp_path: Path) -> None:
    (tmp_path / "subject.py").write_text(
        "import os\nclass Pipe:\n    def read(self):\n        r, w = os.pipe()\n        return os.read(r, 1)\n"
    )
    done = gilprobe(tmp_path, "subject:Pipe")
    assert done.returncode == 4
    assert "subject.py:5" in done.stdout


def test_pytest_shows_the_story(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "from gilprobe.explore import interleave\n" + SUBJECT + "\n"
        "def two(c):\n    assert c.get() == 2\n\n"
        "@interleave(state=Counter, final=two)\ndef test_counter(c):\n    c.inc()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "gilprobe.pytest_plugin", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert "FAILED (invariant) with 1 preemption" in done.stdout
    assert "Traceback" not in done.stdout
