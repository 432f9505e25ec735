"""EXHAUSTED never hides what change points at every bytecode instruction show; what cannot be controlled is said."""

from __future__ import annotations

import importlib.util
import os
import random
import select
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gilprobe.explore import run, search

STEPS = [
    "s.a += 1", "s.b = s.a", "s.d['k'] = s.a", "s.l.append(s.a)", "x = s.l; s.a = len(x)", "if s.l: s.b = s.l[-1]",
    "s.a = len(s.l)", "if 'k' in s.d: s.b += s.d['k']", "s.l = [s.b]", "s.l.clear()", "y = s.d; y['k'] = 2",
    "for v in s.l: s.b += v", "s.t = (s.a, s.b)", "with s.lock: s.a += 2", "with s.lock: s.b = s.a", "s.inc()",
    "s.a = s.get() + 1", "s.b = sum(s.l)", "z = s.l\n    if z: s.b = 9",
]  # fmt: skip
PROGRAM = """
import threading

class State:
    def __init__(self):
        self.a = self.b = 0
        self.d = {{}}
        self.l = []
        self.t = ()
        self.lock = threading.Lock()

    def inc(self):
        self.a += 1

    def get(self):
        return self.b

def first(s):
    try:
{0}
    except Exception as error:
        s.t = repr(error)

def second(s):
    try:
{1}
    except Exception as error:
        s.t = repr(error)
"""


def program(seed: int, folder: Path) -> Any:
    rng = random.Random(seed)
    bodies = []
    for _ in range(2):
        steps = [rng.choice(STEPS) for _ in range(rng.randint(1, 3))]
        bodies.append("\n".join("        " + step.replace("\n", "\n    ") for step in steps))
    path = folder / f"program_{seed}.py"
    path.write_text(PROGRAM.format(*bodies))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", range(12))
def test_the_chosen_points_show_every_end_that_all_instructions_show(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both sides exactly the schedules with one preemption, none beyond.
    monkeypatch.setattr(search, "FURTHER", 0)
    monkeypatch.setattr(search, "BEYOND", 0)
    module = program(seed, tmp_path)
    ends: dict[bool, set[str]] = {}
    for every in (False, True):
        seen = ends[every] = set()

        def note(s: Any, seen: set[str] = seen) -> None:
            seen.add(repr((s.a, s.b, s.d, s.l, s.t)))

        result = run(
            module.first, module.second, state=module.State, final=note, preemptions=1, every_instruction=every
        )
        assert result.verdict == "EXHAUSTED" or result.oracle == "race"
    assert ends[True] <= ends[False], (tmp_path / f"program_{seed}.py").read_text()


def read_a_pipe(_: Any) -> None:
    reader, _writer = os.pipe()
    os.read(reader, 1)


def wait_in_select(_: Any) -> None:
    select.select([], [], [], 60)


def in_another_process(_: Any) -> None:
    with ProcessPoolExecutor(1) as pool:
        assert pool.submit(abs, -1).result() == 1


def nothing(_: Any) -> None:
    pass


POOL = """
import test_honesty as here
result = here.run(here.in_another_process, here.nothing, state=dict)
print(result.verdict, result.uncontrolled.line - here.in_another_process.__code__.co_firstlineno)
"""


def test_a_process_pool_is_told_at_the_line_that_uses_it_and_ends() -> None:
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[3])])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", POOL], env=environment, capture_output=True, text=True)
    assert done.stdout in ("UNCONTROLLED 1\n", "UNCONTROLLED 2\n"), done.stderr


def interrupt(_: Any) -> None:
    signal.raise_signal(signal.SIGINT)
    while True:
        pass


def test_after_an_interrupt_another_exploration_begins() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(interrupt, nothing, state=dict)
    assert run(nothing, nothing, state=dict).verdict == "EXHAUSTED"


@pytest.mark.parametrize("body", [read_a_pipe, wait_in_select])
def test_a_blocking_call_that_is_not_modelled_is_named(body: Any) -> None:
    started = time.monotonic()
    result = run(body, nothing, state=dict)
    assert result.verdict == "UNCONTROLLED"
    assert result.uncontrolled is not None and result.uncontrolled.file == __file__
    assert result.uncontrolled.line == body.__code__.co_firstlineno + (2 if body is read_a_pipe else 1)
    assert time.monotonic() - started < 30  # it came back at all; the 2 s are measured in reports/stress
