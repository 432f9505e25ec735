"""Whatever an enumerator of its own finds for code with timeouts, at most k preemptions, EXHAUSTED(k) has run too.

The enumerator knows nothing of the explorer: bodies are generators that say where another thread may go first (None)
and what they wait for: (whether it has come, whether there is a timeout). A timeout may end at any time.
"""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gilprobe.explore import run, search

Wait = tuple[Callable[[], bool], bool]
Body = Generator[Wait | None, bool, None]

PROGRAM = """
import queue
import threading

class State:
    def __init__(self):
        self.a = 0
        self.log = [], []
        self.event = threading.Event()
        self.lock = threading.Lock()
        self.permits = threading.Semaphore(1)
        self.changed = threading.Condition()
        self.jobs = queue.Queue()

def child(s):
    s.a += 1

def first(s):
    log = s.log[0]
    {0}

def second(s):
    log = s.log[1]
    {1}
"""


def block(come: Callable[[], bool], timed: bool = True) -> Generator[Wait | None, bool, bool]:
    return come() or (yield come, timed)


def add(s: Any, log: list[Any]) -> Body:
    yield None
    value = s.a
    yield None
    s.a = value + 1


def note(s: Any, log: list[Any]) -> Body:
    yield None
    log.append(s.a)


def wait_event(s: Any, log: list[Any]) -> Body:
    yield None
    log.append((yield from block(lambda: s.event)))


def set_event(s: Any, log: list[Any]) -> Body:
    yield None
    s.event = True


def try_lock(s: Any, log: list[Any]) -> Body:
    yield None
    if not (yield from block(lambda: not s.lock)):
        log.append("late")
        return
    s.lock = True
    yield from add(s, log)
    yield None
    s.lock = False


def try_permit(s: Any, log: list[Any]) -> Body:
    yield None
    if (yield from block(lambda: s.permits > 0)):
        s.permits -= 1
        log.append(True)
    else:
        log.append(False)


def give_permit(s: Any, log: list[Any]) -> Body:
    yield None
    s.permits += 1


def wait_condition(s: Any, log: list[Any]) -> Body:
    yield None
    yield from block(lambda: not s.held, False)
    mine = [False]
    s.waiters.append(mine)
    woken = yield from block(lambda: mine[0])
    if not woken and mine in s.waiters:
        s.waiters.remove(mine)
    yield from block(lambda: not s.held, False)
    log.append(woken)


def notify(s: Any, log: list[Any]) -> Body:
    yield None
    yield from block(lambda: not s.held, False)
    if s.waiters:
        s.waiters.pop(0)[0] = True


def get(s: Any, log: list[Any]) -> Body:
    yield None
    log.append(s.jobs.pop(0) if (yield from block(lambda: bool(s.jobs))) else "none")


def put(s: Any, log: list[Any]) -> Body:
    yield None
    s.jobs.append(1)


def join(s: Any, log: list[Any]) -> Body:
    ended: list[bool] = []

    def child() -> Body:
        yield from add(s, log)
        ended.append(True)

    yield None
    s.started.append(child())
    yield None
    yield from block(lambda: bool(ended))
    yield None
    alive = not ended
    yield None
    log.append((alive, s.a))


STEPS: dict[Callable[[Any, list[Any]], Body], str] = {
    add: "s.a += 1",
    note: "log.append(s.a)",
    wait_event: "log.append(s.event.wait(1))",
    set_event: "s.event.set()",
    try_lock: "if s.lock.acquire(timeout=1):\n        s.a += 1\n        s.lock.release()\n"
              "    else:\n        log.append('late')",
    try_permit: "log.append(s.permits.acquire(timeout=2))",
    give_permit: "s.permits.release()",
    wait_condition: "with s.changed:\n        woken = s.changed.wait(1)\n    log.append(woken)",
    notify: "with s.changed:\n        s.changed.notify()",
    get: "try:\n        log.append(s.jobs.get(timeout=3))\n    except queue.Empty:\n        log.append('none')",
    put: "s.jobs.put(1)",
    join: "t = threading.Thread(target=child, args=(s,))\n    t.start()\n    t.join(1)\n"
          "    log.append((t.is_alive(), s.a))",
}  # fmt: skip
PAIRS = [(wait_event, set_event), (try_lock, try_lock), (try_permit, give_permit), (try_permit, try_permit),
         (wait_condition, notify), (get, put), (get, get), (join, add), (join, note)]  # fmt: skip


def drawn(seed: int) -> tuple[list[Any], list[Any]]:
    """Steps of two threads that have to do with each other, with something beside them."""
    rng = random.Random(seed)
    mine, other = rng.choice(PAIRS)
    bodies = [mine], [other]
    for body in bodies:
        for _ in range(rng.randint(0, 2)):
            body.insert(rng.randint(0, len(body)), rng.choice((add, note)))
    return bodies


def fresh() -> SimpleNamespace:
    return SimpleNamespace(
        a=0, log=([], []), event=False, lock=False, permits=1, held=False, waiters=[], jobs=[], started=[]
    )


def ends(bodies: list[Callable[[Any], Body]], bound: int) -> set[str]:
    """Every end of every schedule with at most `bound` preemptions, by running each schedule from the start."""
    found: set[str] = set()
    todo: list[list[int]] = [[]]
    while todo:
        path = todo.pop()
        state = fresh()
        threads = [body(state) for body in bodies]
        waits: list[Any] = [next(t) for t in threads]
        current, spent, depth = None, 0, 0
        while True:
            able = [n for n, w in enumerate(waits) if w != "done" and (w is None or w[0]() or w[1])]
            if not able:
                break
            goes_on = current in able and (waits[current] is None or waits[current][0]())  # type: ignore[index]
            choices = [n for n in able if not goes_on or n == current or spent < bound]
            if depth < len(path):
                chosen = path[depth]
            else:
                chosen = choices[0]
                todo += [[*path, n] for n in choices[1:]]
                path = [*path, chosen]
            depth += 1
            spent += goes_on and chosen != current
            current, wait = chosen, waits[chosen]
            try:
                waits[chosen] = next(threads[chosen]) if wait is None else threads[chosen].send(wait[0]())
            except StopIteration:
                waits[chosen] = "done"
            for thread in state.started:
                threads.append(thread)
                waits.append(next(thread))
            state.started.clear()
        assert all(w == "done" for w in waits), "the programs do not deadlock"
        found.add(repr((state.a, state.log)))
    return found


def in_turn(steps: list[Any], number: int) -> Callable[[Any], Body]:
    def body(state: Any) -> Iterator[Any]:
        for step in steps:
            yield from step(state, state.log[number])

    return body  # type: ignore[return-value]


def real(bodies: tuple[list[Any], list[Any]], folder: Path, name: str) -> Any:
    path = folder / f"{name}.py"
    path.write_text(PROGRAM.format(*("\n    ".join(STEPS[step] for step in steps) for steps in bodies)))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Each pair with one preemption and, where that takes under 800 schedules, with two; those that end in the most ways.
DRAWN = [(126, 1), (31, 2), (49, 1), (6, 2), (108, 1), (82, 2), (111, 1), (8, 2), (45, 1), (60, 2), (71, 1), (36, 2),
         (25, 1), (83, 1), (75, 1), (29, 2), (35, 1), (56, 1)]  # fmt: skip


@pytest.mark.parametrize(("seed", "bound"), DRAWN)
def test_every_end_is_seen_before_exhausted_is_said(
    seed: int, bound: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "FURTHER", 0)
    monkeypatch.setattr(search, "BEYOND", 0)
    bodies = drawn(seed)
    module = real(bodies, tmp_path, f"timeouts_{seed}")
    seen: set[str] = set()
    result = run(module.first, module.second, state=module.State, preemptions=bound,
                 final=lambda s: seen.add(repr((s.a, s.log))))  # fmt: skip
    # Racing updates are looked for when all schedules were run.
    assert result.verdict == "EXHAUSTED" or result.oracle == "race", result.story
    expected = ends([in_turn(steps, number) for number, steps in enumerate(bodies)], bound)
    assert expected <= seen, (tmp_path / f"timeouts_{seed}.py").read_text()
