"""gilprobe check says 0, 1, 2 or 3, which line to blame, and never that all is well where it did not look."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from commands import gilprobe
from pythons import Python
from readers import sarif_schema
from recordings import Written, chunk, extent, thread

from gilprobe.cli.check import _rows
from gilprobe.cli.limits import Limits, configured, share_of, wait_limits
from gilprobe.errors import UsageError
from gilprobe.model import Frame, HotObject, NotObserved, Process, Profile, Thread

SCRIPT = """
import threading, time
lock = threading.Lock()
def work():
    for _ in range(10):
        with lock:
            time.sleep(0.004)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
TWIN = SCRIPT.replace("def work():", "def work():\n    lock = threading.Lock()")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for name, script in (("shared", SCRIPT), ("twin", TWIN)):
        (folder / f"{name}.py").write_text(script)
        assert gilprobe("profile", "-q", "-o", name, f"{name}.py", cwd=folder).returncode == 0
    return folder


def test_a_planted_lock_exceeds_and_its_line_is_blamed(recordings: Path) -> None:
    done = gilprobe("check", "shared", "--max-wait", "lock=5%", "--max-wait", "stop-the-world=50%", cwd=recordings)
    assert done.returncode == 1, done.stderr
    over, blame, ok = done.stdout.splitlines()
    assert over.startswith("OVER  lock") and ok.startswith("ok    stop-the-world")
    assert "lock in work at shared.py:6 in work, ended by" in blame
    assert gilprobe("check", "twin", "--max-wait", "lock=5%", cwd=recordings).returncode == 0


def test_the_project_s_table_does_the_same_and_the_command_line_wins(recordings: Path) -> None:
    project = recordings / "project"
    (project / "deeper").mkdir(parents=True)
    (project / "pyproject.toml").write_text('[tool.gilprobe.check]\nmax-wait = {lock = "5%", gil = 100}\n')
    assert gilprobe("check", "../../shared", cwd=project / "deeper").returncode == 1
    assert gilprobe("check", "../../shared", "--max-wait", "lock=100%", cwd=project / "deeper").returncode == 0
    assert gilprobe("check", "../../twin", cwd=project / "deeper").returncode == 0


def test_what_was_not_watched_is_not_called_fine(recordings: Path) -> None:
    done = gilprobe("check", "shared", "--no-deadlock", "--max-wait", "gil=100%", cwd=recordings)
    assert done.returncode == 3
    assert "?     deadlock" in done.stdout and "shared cannot tell: deadlock: not observed" in done.stderr
    # A limit that is exceeded is exceeded, whatever else is not known.
    assert gilprobe("check", "shared", "--no-deadlock", "--max-wait", "lock=5%", cwd=recordings).returncode == 1


def test_lost_records_leave_nothing_to_be_sure_of(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    written = Written([extent(chunk(thread(1, cpu_ns=10**9)))])
    written.into(tmp_path / "r")
    assert gilprobe("check", "r", "--max-wait", "lock=5%", cwd=tmp_path).returncode == 0
    written.header["lost_records"] = 3
    written.into(tmp_path / "r")
    done = gilprobe("check", "r", "--max-wait", "lock=5%", cwd=tmp_path)
    assert done.returncode == 3 and "3 records of process 7 could not be written" in done.stderr


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[tool.gilprobe.check]\nmax-waits = {lock = 5}", "has no max-waits"),
        ("[tool.gilprobe.check]\nmax-wait = 5", "max-wait is no table"),
        ("[tool.gilprobe.check]\nmax-wait = {luck = 5}", "no kind of wait called luck"),
        ("[tool.gilprobe.check]\nmax-wait = {lock = true}", "True is no percentage"),
        ('[tool.gilprobe.check]\nmax-hot-object = "much"', "much is no percentage"),
        ("[tool.gilprobe.check]\nno-deadlock = 1", "no-deadlock is neither true nor false"),
        ("tool = 3", "tool is no table"),
        ("[tool", "is no TOML"),
    ],
)
def test_nonsense_in_the_table_is_a_usage_error(tmp_path: Path, toml: str, said: str) -> None:
    (tmp_path / "pyproject.toml").write_text(toml)
    with pytest.raises(UsageError, match=said):
        configured(tmp_path / "pyproject.toml")


def test_the_table_and_the_options_read_percentages_alike(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[tool.gilprobe.check]\nmax-wait = {lock = '5%', gil = 10}\nmax-hot-object = 2.5\nno-inversion = true\n"
    )
    assert configured(tmp_path / "pyproject.toml") == Limits({"lock": 0.05, "gil": 0.1}, 0.025, False, True)
    assert wait_limits(["lock=5%", "object=2.5"]) == {"lock": 0.05, "object": 0.025}
    for nonsense in ("-1%", "101", "nan", "", True):
        with pytest.raises(UsageError, match="no percentage"):
            share_of(nonsense, "there")


def profile(**more: Any) -> Profile:
    process = Process(1, 0, "3.13.0t", True, False, ("python",), 1.0, "exit")
    thread = Thread("w", 1, 1, 1.0, 1.0, 0.0, {}, {}, 0.0, 0.0, 0.0)
    return Profile(meta={"samples": 1000}, processes=(process,), threads=(thread,), waits=(), **more)


def test_a_hot_object_is_judged_only_where_there_are_samples_enough() -> None:
    limits = Limits(hot_object=0.05)

    def row(judged: Profile) -> tuple[bool, bool]:
        (found,) = _rows(judged, limits)
        return found.exceeded, bool(found.unknown)

    hot = HotObject("dict", "cache", 0.2, (0.15, 0.26), ("w",), (Frame("get", "/a/cache.py", 5),), "estimated")
    assert row(profile(hot_objects=(hot,))) == (True, False)
    assert row(profile()) == (False, False)
    assert row(replace(profile(), meta={"samples": 59})) == (False, True)
    assert row(profile(not_observed=(NotObserved("hot_objects", "the sampler was off"),))) == (False, True)
    gil = replace(profile().processes[0], free_threaded=False)
    assert row(replace(profile(), processes=(gil,), meta={"samples": 0})) == (False, False)


def test_deadlocks_and_inversions_name_the_lines_of_each_thread() -> None:
    stack = (Frame("take", "/a/locks.py", 5),)
    found = profile(
        deadlocks=({"threads": [{"name": "w", "waits_for": {"name": "A"}, "stack": stack, "holds": []}]},),
        lock_order=({"ways": [{"thread": "w", "holds": {"name": "A", "taken": stack}, "takes": {"name": "B"}}]},),
    )
    deadlock, inversion = _rows(found, Limits(no_deadlock=True, no_inversion=True))
    assert deadlock.exceeded and list(deadlock.blame) == ["w waits for A at locks.py:5 in take"]
    assert inversion.exceeded and list(inversion.blame) == ["w takes A at locks.py:5 in take", "w takes B as well at ?"]


ORDER = """
import threading
a, b = threading.Lock(), threading.Lock()
def one():
    with a:
        with b:
            pass
def two():
    with b:
        with a:
            pass
for work in (one, two):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""


def test_an_inversion_that_never_hung_fails_the_gate_and_its_twin_passes(tmp_path: Path) -> None:
    twin = ORDER.replace("with b:\n        with a:", "with a:\n        with b:")
    assert twin != ORDER
    for name, script in (("wrong", ORDER), ("right", twin)):
        (tmp_path / f"{name}.py").write_text(script)
        recorded = gilprobe("profile", "-q", "--watchdog", "-o", name, f"{name}.py", cwd=tmp_path)
        assert recorded.returncode == 0, recorded.stderr
    done = gilprobe("check", "wrong", "--no-inversion", "--no-deadlock", cwd=tmp_path)
    assert done.returncode == 1 and "ok    deadlock" in done.stdout and "OVER  inversion" in done.stdout
    assert "wrong.py:9 in two" in done.stdout and "wrong.py:6 in one" in done.stdout
    done = gilprobe("check", "right", "--no-inversion", "--no-deadlock", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, count in (("wrong", 1), ("right", 0)):
        assert gilprobe("report", name, "-o", f"{name}.sarif", cwd=tmp_path).returncode == 0
        log = json.loads((tmp_path / f"{name}.sarif").read_text())
        jsonschema.validate(log, sarif_schema())
        assert [result["ruleId"] for result in log["runs"][0]["results"]] == ["lock-order"] * count


def test_check_blames_lines_on_every_build(any_python: Python, tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(SCRIPT)
    assert (
        gilprobe("profile", "-q", "-o", "r", "--python", any_python.executable, "shared.py", cwd=tmp_path).returncode
        == 0
    )
    done = gilprobe("check", "r", "--max-wait", "lock=5%", cwd=tmp_path)
    assert done.returncode == 1 and "shared.py:6 in work" in done.stdout
