"""The linearizability search agrees with trying every order."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from gilprobe.explore.linearize import Operation, linearizable


def register(state: Any, value: tuple[str, int]) -> list[Any]:
    kind, number = value
    if kind == "write":
        return [number]
    return [state] if state == number else []


def by_every_order(history: list[Operation]) -> bool:
    for size in range(len(history) + 1):
        for order in itertools.permutations(range(len(history)), size):
            if any(o.returned is not None and n not in order for n, o in enumerate(history)):
                continue
            place = {n: at for at, n in enumerate(order)}
            if any(
                history[a].returned is not None and history[a].returned < history[b].called and place[a] > place[b]
                for a in place for b in place
            ):  # fmt: skip
                continue
            state: Any = 0
            for n in order:
                after = register(state, history[n].value)
                if not after:
                    break
                state = after[0]
            else:
                return True
    return False


def random_history(rng: random.Random) -> list[Operation]:
    history = []
    for _ in range(rng.randint(1, 3)):
        now = 0.0
        for _ in range(rng.randint(1, 2)):
            called = now + rng.random()
            now = called + rng.random()
            kind = rng.choice(("read", "write"))
            pending = rng.random() < 0.1
            history.append(Operation(called, None if pending else now, (kind, rng.randint(0, 2))))
            if pending:
                break
    return history


@pytest.mark.parametrize("block", range(4))
def test_small_histories_are_judged_as_by_every_order(block: int) -> None:
    verdicts = set()
    for seed in range(block * 500, block * 500 + 500):
        history = random_history(random.Random(seed))
        expected = by_every_order(history)
        assert linearizable(history, 0, register) == expected, (seed, history)
        verdicts.add(expected)
    assert verdicts == {True, False}


def long_history(operations: int, keys: int) -> list[Operation]:
    rng = random.Random(1)
    values = dict.fromkeys(range(keys), 0)
    history = []
    for number in range(operations):
        key = rng.randrange(keys)
        if rng.random() < 0.5:
            values[key] = number
            value = ("write", number)
        else:
            value = ("read", values[key])
        history.append(Operation(number - rng.random() * 2, number + rng.random() * 2, value, key))
    return history


def test_a_long_partitioned_history_is_judged_right_both_ways() -> None:
    history = long_history(2_000, 50)
    assert linearizable(history, 0, register, partitioned=True)
    last_read = max(n for n, o in enumerate(history) if o.value[0] == "read")
    broken = history[last_read]
    history[last_read] = Operation(broken.called, broken.returned, ("read", -1), broken.key)
    assert not linearizable(history, 0, register, partitioned=True)
