"""Linearizability: is there an order of the operations, true to real time, in which one thread gets these results?

Wing and Gong's search with Lowe's memo on (operations done, state); histories split by key where operations on
different keys are independent (P-compositionality; Horn and Kroening 2015).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Operation:
    """called, returned: any increasing clock; `returned` None: it never did, so it may or may not have taken effect."""

    called: float
    returned: float | None
    value: Any
    key: Hashable = None


Step = Callable[[Any, Any], Iterable[Any]]  # (state, Operation.value) -> the states it may lead to with that result


def linearizable(history: Sequence[Operation], initial: Hashable, step: Step, *, partitioned: bool = False) -> bool:
    """Whether `history` has a linearization from `initial`. States are hashable; `partitioned` splits by `key`."""
    if not partitioned:
        return order_of(history, initial, step) is not None
    parts: dict[Hashable, list[Operation]] = defaultdict(list)
    for operation in history:
        parts[operation.key].append(operation)
    return all(order_of(part, initial, step) is not None for part in parts.values())


def order_of(
    history: Sequence[Operation], initial: Hashable, step: Step, accept: Callable[[Any], bool] | None = None
) -> list[int] | None:
    """Indexes of `history` in a linearization's order, or None. Operations that never returned may be missing.

    accept: whether the state at the end is one to end in.
    """
    infinite = float("inf")
    operations = sorted(range(len(history)), key=lambda i: history[i].called)
    returns = [infinite if (r := history[i].returned) is None else r for i in operations]
    must = sum(1 << n for n, i in enumerate(operations) if history[i].returned is not None)
    seen: set[tuple[int, Hashable]] = set()
    # A frame: operations done (bits), state, those left to try, and the one that led here.
    frames: list[tuple[int, Hashable, list[tuple[int, Hashable]]]] = []
    order: list[int] = []

    def moves(done: int, state: Hashable) -> list[tuple[int, Hashable]]:
        limit = infinite
        found = []
        n = _lowest_zero(done)
        while n < len(operations):
            if not done >> n & 1:
                operation = history[operations[n]]
                if operation.called > limit:
                    break
                limit = min(limit, returns[n])
                found.append(n)
            n += 1
        return [
            (n, after)
            for n in reversed(found)
            if history[operations[n]].called <= limit
            for after in step(state, history[operations[n]].value)
        ]

    done, state = 0, initial
    frames.append((done, state, moves(done, state)))
    while frames:
        done, state, left = frames[-1]
        if done & must == must and (accept is None or accept(state)):
            return [operations[n] for n in order]
        if not left:
            frames.pop()
            if order:
                order.pop()
            continue
        n, after = left.pop()
        reached = (done | 1 << n, after)
        if reached in seen:
            continue
        seen.add(reached)
        order.append(n)
        frames.append((*reached, moves(*reached)))
    return None


def _lowest_zero(bits: int) -> int:
    return (~bits & (bits + 1)).bit_length() - 1
