"""What the code under test can reach is under control and starts each schedule alike; all else is left alone."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from gilprobe.explore import run

LOCKS = """
import functools
import threading

LOCK = threading.Lock()
SEEN = {}

@functools.cache
def cached():
    return len(SEEN)

class Totals:
    n = 0

def add(state):
    with LOCK:
        Totals.n += 1
        state.n = Totals.n
"""
USER = """
import importlib

class State:
    n = 0

def by_statement(state):
    from {name} import add
    add(state)

def by_name(state):
    importlib.import_module({name!r}).add(state)
"""
ALONE = """
class State:
    n = 0

def add(state):
    state.n += 1
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def load(name: str, text: str) -> Any:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.parametrize("way", ["by_statement", "by_name"])
def test_a_module_that_is_imported_while_it_runs_is_under_control(load: Any, way: str) -> None:
    locks, user = load("reached_locks", LOCKS), load("reaching_user", USER.format(name="reached_locks"))
    body, totals = getattr(user, way), set()

    def final(state: Any) -> None:
        totals.add(locks.Totals.n)

    result = run(body, body, state=user.State, final=final, preemptions=1)
    assert (result.verdict, totals) == ("EXHAUSTED", {2}), result.story
    assert result.schedules > 10  # its lock and its class attribute are change points
    assert type(locks.LOCK) is type(threading.Lock())


def test_what_it_cannot_reach_is_left_to_other_threads(load: Any) -> None:
    locks, user = load("unreached_locks", LOCKS), load("alone", ALONE)
    locks.cached()
    lock, over, wrote = locks.LOCK, threading.Event(), 0

    def other() -> None:
        nonlocal wrote
        while not over.wait(0.001):
            assert locks.LOCK is lock
            locks.SEEN[wrote] = locks.cached()
            wrote += 1

    thread = threading.Thread(target=other)
    thread.start()
    try:
        result = run(user.add, state=user.State)
    finally:
        over.set()
        thread.join()
    assert result.verdict == "EXHAUSTED"
    assert len(locks.SEEN) == wrote > 0
    assert locks.cached.cache_info().misses == 1
