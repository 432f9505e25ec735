"""`run`: some bodies on one shared state, every way the scheduler can interleave them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gilprobe.errors import UsageError
from gilprobe.explore.engine import Bodies, Outcome, Session, files_of
from gilprobe.explore.result import EXHAUSTED, FAILED, NOT_FOUND, UNCONTROLLED, Nondeterministic, Place, Result
from gilprobe.explore.scheduler import raw_monotonic
from gilprobe.explore.search import Diverged, Found, cpu_s, search


def run(
    *bodies: Callable[[Any], Any], state: Callable[[], Any], final: Callable[[Any], Any] | None = None,
    invariant: Callable[[Any], Any] | None = None, threads: int = 2, max_ops: int = 3, preemptions: int = 2,
    budget_s: float = 10.0, seed: int = 0, replay_dir: str | None = None, args: tuple[Any, ...] = (),
    operations: Any = None, model: Any = None, every_instruction: bool = False,
) -> Result:  # fmt: skip
    """Interleaves `bodies`, each called with what `state()` makes, one thread each.

    final: raises on a bad end. invariant: the same, or returns False. threads, max_ops, operations, model: as in `check`,
    not used here. every_instruction: change points at each bytecode instruction (slow; to check the explorer itself).
    """
    if not bodies:
        raise UsageError("run() got no bodies to interleave", "pass one callable of the shared state per thread")
    for body in (*bodies, state):
        if not callable(body):
            raise UsageError(f"{body!r} is not callable", "bodies and state are callables; state() makes what they share")
    started = cpu_s()
    deadline = raw_monotonic() + budget_s
    plan = Bodies(
        setup=lambda: state(*args),
        bodies=[_call(body) for body in bodies],
        names=[f"T{number + 1}" for number in range(len(bodies))],
        final=_final(final, invariant),
    )
    with Session(files_of(*bodies, state, final), [*bodies, state, final, args], every_instruction) as session:
        try:
            found = search(lambda s: session.execute(plan, s), preemptions=preemptions, deadline=deadline, seed=seed)
        except Diverged as error:
            raise nondeterministic(error) from None
    return _result(found, seed, cpu_s() - started, tuple((getattr(b, "__name__", repr(b)),) for b in bodies))


def _call(body: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda state, _task: body(state)


def _final(final: Callable[[Any], Any] | None, invariant: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    if final is None and invariant is None:
        return None

    def judge(state: Any) -> None:
        if final is not None:
            final(state)
        if invariant is not None and invariant(state) is False:
            raise AssertionError("the invariant does not hold")

    return judge


def nondeterministic(error: Diverged) -> Nondeterministic:
    return Nondeterministic(
        f"the code under test is not deterministic: decision {error.index} of the same schedule differed",
        "give it no wall clock, random source or state kept between runs",
    )


def place(site: tuple[str, str, int]) -> Place:
    return Place(site[0], site[2], site[1])


def _result(found: Found, seed: int, cpu: float, operations: tuple[tuple[str, ...], ...]) -> Result:
    outcome: Outcome | None = found.outcome
    if outcome is None:
        verdict = EXHAUSTED if found.complete else NOT_FOUND
        return Result(verdict, None, found.bound, found.schedules, cpu, seed, operations)
    if outcome.uncontrolled is not None:
        where = place(outcome.uncontrolled)
        story = f"uncontrolled: {where} blocks in a call that is not modelled"
        return Result(UNCONTROLLED, None, found.bound, found.schedules, cpu, seed, operations, uncontrolled=where, story=story)
    return Result(
        FAILED, outcome.oracle, found.bound, found.schedules, cpu, seed, operations,
        preemptions=len(outcome.run.preemptions), error=outcome.error,
    )  # fmt: skip
