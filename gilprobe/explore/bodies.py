"""`run`: some bodies on one shared state, every way the scheduler can interleave them."""

from __future__ import annotations

import linecache
import random
from collections.abc import Callable
from typing import Any

from gilprobe.errors import UsageError
from gilprobe.explore import sane
from gilprobe.explore.engine import Bodies, Outcome, Session, files_of
from gilprobe.explore.observe import Observer
from gilprobe.explore.real import raw_monotonic
from gilprobe.explore.replayfile import save
from gilprobe.explore.result import EXHAUSTED, FAILED, NOT_FOUND, UNCONTROLLED, Nondeterministic, Place, Result
from gilprobe.explore.scheduler import FREE, Strategy
from gilprobe.explore.schedules import Execute, Following, Recording, shrink
from gilprobe.explore.search import Deviations, Diverged, Fixed, Found, Hot, Pct, bits, cpu_s, search
from gilprobe.explore.story import place_of, racing_pair, tell

UNTIMED = 0.6  # of the budget, before every timeout may end early
PLAINER = 400  # schedules spent on a plainer one of as few preemptions


def run(
    *bodies: Callable[[Any], Any], state: Callable[[], Any], final: Callable[[Any], Any] | None = None,
    invariant: Callable[[Any], Any] | None = None, threads: int = 2, max_ops: int = 3, preemptions: int = 2,
    budget_s: float = 10.0, seed: int = 0, replay_dir: str | None = None, args: tuple[Any, ...] = (),
    operations: Any = None, model: Any = None, every_instruction: bool = False, restore_globals: bool = False,
) -> Result:  # fmt: skip
    """Interleaves `bodies`, each called with what `state()` makes, one thread each.

    final: raises on a bad end. invariant: the same, or returns False. threads, max_ops, operations, model:
    `check`'s and not used here. every_instruction: change points at each bytecode instruction (slow; it checks the
    explorer itself).
    restore_globals: module globals start each schedule as they are now; default: they are `state`'s business.
    """
    if not bodies:
        raise UsageError("run() got no bodies to interleave", "pass one callable of the shared state per thread")
    for body in (*bodies, state):
        if not callable(body):
            raise UsageError(
                f"{body!r} is not callable", "bodies and state are callables; state() makes what they share"
            )
    sane.limits(threads=threads, max_ops=max_ops, preemptions=preemptions, budget_s=budget_s)
    sane.callables(final=final, invariant=invariant)
    sane.fits(state, args, "state() makes what the bodies share")
    for body in bodies:
        sane.fits(body, (None,), "each body takes one argument, what state() made")
    started = cpu_s()
    deadline = raw_monotonic() + budget_s
    labels = tuple((getattr(b, "__name__", repr(b)),) for b in bodies)
    plan = Bodies(
        setup=lambda: state(*args),
        bodies=[_call(body) for body in bodies],
        names=[f"T{number + 1}" for number in range(len(bodies))],
        final=_final(final, invariant),
    )
    target = {"kind": "run", "bodies": bodies, "state": state, "final": final, "invariant": invariant, "args": args}
    roots = [*bodies, state, final, args]
    with Session(files_of(*bodies, state, final), roots, every_instruction, restore_globals) as session:
        session.busy_s = min(session.busy_s, max(budget_s, 1.0))
        try:

            def execute(strategy: Strategy, observer: Any = None) -> Outcome:
                return session.execute(plan, strategy, observer)

            found = explore_schedules(execute, preemptions=preemptions, deadline=deadline, seed=seed, session=session)
            return finish(found, seed, started, labels, execute, replay_dir, {**target, "early": found.with_early})
        except Diverged as error:
            raise nondeterministic(error) from None


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
        f"the code under test is not deterministic: step {error.index} of the same schedule differed, {error.place}",
        "give it no wall clock, random source or state kept between runs",
    )


def place(site: tuple[str, str, int]) -> Place:
    return Place(site[0], site[2], site[1], linecache.getline(site[0], site[2]).strip())


def explore_schedules(
    execute: Execute, *, preemptions: int, deadline: float, seed: int, max_schedules: int | None = None,
    beyond: bool = True, session: Session | None = None,
) -> Found:  # fmt: skip
    """`search`, and where it finds nothing a look at which accesses nothing orders.

    session: with it all is run again with timeouts that end early, before EXHAUSTED is said of code that has some.
    """

    observer = Observer()
    started = raw_monotonic()
    if session is not None:
        session.early = False
    first = execute(Fixed(()), observer)
    if first.uncontrolled is not None or first.failed:
        return Found(first, (), schedules=1)
    hot = Hot(*observer.meetings())
    found = search(
        lambda s: execute(s, None), preemptions=preemptions, deadline=deadline, seed=seed, max_schedules=max_schedules,
        hot=hot, beyond=beyond, timed_deadline=started + UNTIMED * (deadline - started),
    )  # fmt: skip
    if found.outcome is not None:
        return found
    if session is not None and found.timed and (found.complete or max_schedules is None):
        _with_early_timeouts(found, execute, session, preemptions, deadline, seed, max_schedules)
        if found.outcome is not None:
            return found
    rng = random.Random(seed)
    for number in range(3 if beyond else 1):
        strategy = Fixed(()) if number == 0 else Pct(rng, max(found.length, 2), 2)
        outcome, _ = race(execute, strategy)
        found.schedules += 2
        if outcome.failed:
            found.outcome, found.deviations = outcome, tuple(outcome.run.deviations)
            return found
    return found


def _with_early_timeouts(
    found: Found, execute: Execute, session: Session, preemptions: int, deadline: float, seed: int,
    max_schedules: int | None,
) -> None:  # fmt: skip
    """A timeout may end on a slow machine, but code that gives up then is seldom wrong: such a failure takes EXHAUSTED
    away and is told, no more. That others wait for ever for what was given up is a failure."""

    def accept(outcome: Outcome) -> bool:
        if outcome.oracle in ("deadlock", "lost-wakeup"):
            return True
        found.early = found.early or outcome
        return False

    session.early = True  # and stays, for what is found is run again
    again = search(
        lambda s: execute(s, None), preemptions=preemptions, deadline=deadline, seed=seed,
        max_schedules=max_schedules, accept=accept, guided=not found.complete, beyond=False,
    )  # fmt: skip
    found.schedules += again.schedules
    found.capped |= again.capped
    found.wavering |= again.wavering
    if again.outcome is not None:
        found.outcome, found.deviations, found.bound = again.outcome, again.deviations, again.bound
        found.with_early = again.outcome.failed
        found.complete = False
        return
    session.early = False
    if not again.complete or found.early is not None:
        found.complete, found.bound = False, None


def race(execute: Execute, strategy: Strategy) -> tuple[Outcome, Observer]:
    """Runs a schedule twice: to see what is updated, then whether two updates race."""
    first = Observer()
    outcome = execute(strategy, first)
    if outcome.failed or outcome.uncontrolled is not None:
        return outcome, first
    observer = Observer(first.updates())
    outcome = execute(Fixed(tuple(outcome.run.deviations)), observer)
    if not outcome.failed and observer.updates_in_race() is not None:
        outcome.oracle = "race"
    return outcome, observer


def finish(
    found: Found, seed: int, started: float, labels: tuple[tuple[str, ...], ...], execute: Execute | None,
    replay_dir: str | None, target: dict[str, Any],
) -> Result:  # fmt: skip
    """The verdict; of a failure the least schedule, its story and its replay file."""
    outcome = found.outcome
    if outcome is None:
        verdict = EXHAUSTED if found.complete else NOT_FOUND
        bound = (
            found.bound
            if found.complete or not (found.capped or found.inconclusive or found.timed or found.wavering)
            else None
        )
        return Result(
            verdict, None, bound, found.schedules, cpu_s() - started, seed, labels, story=_nothing_found(found)
        )
    if outcome.uncontrolled is not None:
        where = place(outcome.uncontrolled)
        does = "blocks in a call that is not modelled" if not outcome.busy else "goes on and on without a change point"
        story = f"UNCONTROLLED: {where} {does}: {where.source}"
        return Result(
            UNCONTROLLED,
            None,
            found.bound,
            found.schedules,
            cpu_s() - started,
            seed,
            labels,
            uncontrolled=where,
            story=story,
        )
    assert execute is not None and outcome.oracle is not None
    least = least_schedule(execute, found, outcome.oracle)
    observer = Observer()
    if outcome.oracle == "race":
        shown, observer = race(execute, Fixed(least))
    else:
        shown = execute(Fixed(least), observer)
    if not shown.failed:
        raise sane.wavering(execute, least, f"the failing schedule ({outcome.oracle}) did not fail when run again")
    if shown.oracle == "linearizability" and target.get("model", "none") is None and len(labels) == 1:
        raise sane.wavering(execute, least, "one thread alone did not do twice the same")
    pair = observer.updates_in_race() if outcome.oracle == "race" else racing_pair(shown.run, observer)
    replay_path = None
    if replay_dir is not None:
        replay_path = save(replay_dir, execute, least, shown, observer, labels, seed, target)
    return Result(
        FAILED, shown.oracle, found.bound, found.schedules, cpu_s() - started, seed, labels,
        preemptions=len(shown.run.preemptions), racing_pair=(place_of(pair[0]), place_of(pair[1])) if pair else None,
        story=tell(shown, observer, labels, pair), replay_path=replay_path, error=shown.error,
    )  # fmt: skip


def plainer(execute: Execute, least: Deviations, oracle: str) -> Deviations:
    """The first preemption of the default schedule that fails alike, where there is one: the same on every build."""
    if len(least) < 2:
        return least
    first = execute(Fixed(()), None)
    candidates = [(n, t) for n, mask in enumerate(first.run.trace) if not mask & FREE for t in bits(mask)]
    for candidate in candidates[:PLAINER]:
        if execute(Fixed((candidate,)), None).oracle == oracle:
            return (candidate,)
    return least


def _nothing_found(found: Found) -> str:
    if found.complete:
        time = "; time passes only where a thread sleeps or a timeout ends" if found.clocked else ""
        scenarios = f" of each of the {found.scenarios} scenarios" if found.scenarios else ""
        return (
            f"every schedule{scenarios} with at most {found.bound} preemptions at modelled points was run; C calls "
            f"taken as atomic{time}"
        )
    story = f"nothing found in {found.schedules} schedules"
    if found.early is not None:
        story += f"; not exhausted: it fails ({found.early.oracle}) if a timeout ends while other threads could go on"
    elif found.wavering:
        story += "; not exhausted: the same part of a schedule went another way when it was run again"
    elif found.capped:
        story += "; not exhausted: a thread polls or spins, which it could do any number of times"
    return story


def least_schedule(execute: Execute, found: Found, oracle: str) -> Deviations:
    """What context bounding found has the fewest preemptions already; else some are left out and fewer looked for."""
    outcome = found.outcome
    if outcome is None or oracle == "race":
        return found.deviations
    count = len(outcome.run.preemptions)
    if count == 0 or (found.bound is not None and count <= found.bound + 1):
        return plainer(execute, found.deviations, oracle) if count == 1 else found.deviations
    recording = Recording(found.deviations)
    if execute(recording, None).oracle != oracle:
        return found.deviations
    deadline = raw_monotonic() + 1.0
    switches = shrink(execute, recording.switches, oracle, deadline)
    again = execute(Following(switches), None)
    least = tuple(again.run.deviations) if again.oracle == oracle else found.deviations
    if len(again.run.preemptions) <= 1:
        return plainer(execute, least, oracle)
    fewer = search(
        lambda s: execute(s, None), preemptions=len(again.run.preemptions) - 1, deadline=raw_monotonic() + 1.0, seed=0,
        accept=lambda o: o.oracle == oracle and len(o.run.preemptions) < len(again.run.preemptions),
        guided=False, beyond=False,
    )  # fmt: skip
    return fewer.deviations if fewer.outcome is not None and fewer.outcome.failed else least
