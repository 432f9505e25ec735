"""What a case is: a bug, its twin, and how either is handed to `gilprobe.explore`.

explore = {"run": run, "check": check}[case.kind]
result = explore(*case.buggy.positional, **case.buggy.keywords, budget_s=10.0, seed=0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Kind = Literal["run", "check"]
Oracle = Literal["final", "exception", "deadlock", "lost wakeup", "linearizability"]
S = TypeVar("S")


@dataclass(frozen=True)
class Setup:
    """Arguments of one call of `run` (positional: the bodies) or `check` (positional: the class).

    What the caller decides (budget_s, seed, preemptions, replay_dir) is never among the keywords.
    """

    positional: tuple[Any, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A bug and the same code with the fix.

    oracle: what a run that meets the bug breaks first.
    preemptions: the fewest that its writer could find, blocking switches and expired timeouts not counted.
    source: what inspired it.
    """

    name: str
    kind: Kind
    buggy: Setup
    fixed: Setup
    oracle: Oracle
    preemptions: int
    source: str


def run_case(
    name: str,
    *bodies: Callable[[S], object],
    buggy: Callable[[], S],
    fixed: Callable[[], S],
    final: Callable[[S], None] | None = None,
    oracle: Oracle,
    preemptions: int,
    source: str,
) -> Case:
    """The bodies and the final check are the same for both; the states differ by the fix."""
    return Case(
        name,
        "run",
        Setup(bodies, {"state": buggy, "final": final}),
        Setup(bodies, {"state": fixed, "final": final}),
        oracle,
        preemptions,
        source,
    )


def check_case(
    name: str,
    *,
    buggy: type,
    fixed: type,
    oracle: Oracle,
    preemptions: int,
    source: str,
    **keywords: Any,
) -> Case:
    """`keywords` go to `check` for both."""
    return Case(name, "check", Setup((buggy,), keywords), Setup((fixed,), keywords), oracle, preemptions, source)
