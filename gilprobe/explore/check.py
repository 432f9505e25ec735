"""`check`: scenarios of a class's operations, each in many schedules, judged against the class run by one thread."""

from __future__ import annotations

import contextlib
import dis
import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gilprobe.errors import UsageError
from gilprobe.explore import sane
from gilprobe.explore.bodies import explore_schedules, finish, nondeterministic
from gilprobe.explore.engine import Session, files_of
from gilprobe.explore.operations import Call, Operations, Scenario, hypothesis
from gilprobe.explore.real import raw_monotonic
from gilprobe.explore.result import Nondeterministic, Result
from gilprobe.explore.search import Diverged, Found, cpu_s
from gilprobe.explore.trial import Trial, Uncontrolled

PER_EXAMPLE = 150  # schedules of one drawn scenario
FIRST_LOOK = 0.4  # of the budget, for a few schedules of every scenario
SHRINK_S = 3.0


@dataclass(slots=True)
class Setup:
    """What is explored, as `check` was asked."""

    cls: Any
    model: Any
    args: tuple[Any, ...]
    operations: Any
    invariant: Any
    threads: int
    max_ops: int
    preemptions: int
    seed: int


class _Stop(BaseException):
    """Ends Hypothesis's loop."""


def check(
    cls: Any, model: Any = None, *, args: tuple[Any, ...] = (), operations: Any = None,
    invariant: Callable[[Any], Any] | None = None, threads: int = 2, max_ops: int = 3, preemptions: int = 2,
    budget_s: float = 10.0, seed: int = 0, replay_dir: str | None = None,
) -> Result:  # fmt: skip
    """Looks for operations of `cls(*args)` and a schedule of them that no order of one thread explains.

    model: a class or callable with the same methods that says what is right; default: `cls` run by one thread.
    operations: {method name: Hypothesis strategy of its arguments}; default: the public methods, from annotations.
    invariant: gets the object when all threads have ended; raises or returns False where it is broken.
    """
    setup = Setup(cls, model, args, operations, invariant, threads, max_ops, preemptions, seed)
    if not callable(cls):
        raise UsageError(f"{cls!r} is not a class", "check() takes a class, or a callable that makes the object")
    sane.limits(threads=threads, max_ops=max_ops, preemptions=preemptions, budget_s=budget_s)
    sane.callables(model=model, invariant=invariant)
    sane.fits(cls, args, "give the arguments that it is made with as args=(...)")
    chosen = Operations(cls, operations)
    started = cpu_s()
    deadline = raw_monotonic() + budget_s
    with Session(files_of(cls, model, invariant), [cls, model, invariant, args]) as session:
        session.busy_s = min(session.busy_s, max(budget_s, 1.0))
        explorer = Explorer(session, setup, chosen, deadline)
        try:
            explorer.explore()
        except Diverged as error:
            raise nondeterministic(error) from None
        except Uncontrolled as error:
            explorer.found.outcome = error.outcome
            explorer.found.complete = False
        session.early = explorer.found.with_early
        return finish(
            explorer.found, seed, started, explorer.labels(), explorer.trial.execute if explorer.trial else None,
            replay_dir, {**_target(setup, explorer.best, explorer.post), "early": session.early},
        )  # fmt: skip


def _target(setup: Setup, scenario: Scenario | None, post: list[str]) -> dict[str, Any]:
    return {
        "kind": "check", "target": setup.cls, "post": post, "scenario": scenario, "args": setup.args,
        "model": setup.model, "invariant": setup.invariant, "operations": setup.operations,
    }  # fmt: skip


class Explorer:
    """Runs scenarios until one fails, then shrinks it."""

    def __init__(self, session: Session, setup: Setup, operations: Operations, deadline: float) -> None:
        self.session = session
        self.setup = setup
        self.operations = operations
        self.deadline = deadline
        self.found = Found()
        self.best: Scenario | None = None
        self.trial: Trial | None = None
        self.pool: dict[str, list[Call]] = {name: [] for name in operations.strategies}
        self.post = epilogue(setup.cls, setup.model, operations)
        self.tried: set[str] = set()

    def labels(self) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(str(c) for c in thread) for thread in self.best or ())

    def make(self) -> Any:
        return self.setup.cls(*self.setup.args)

    def new_trial(self, scenario: Scenario) -> Trial:
        model = self.setup.model
        make_model = None if model is None else lambda: model(*_model_args(model, self.setup.args))
        return Trial(
            self.session, self.make, scenario, model=make_model, invariant=self.setup.invariant, post=self.post,
        )  # fmt: skip

    def attempt(self, scenario: Scenario, max_schedules: int | None, deadline: float) -> tuple[Found, Trial]:
        trial = self.new_trial(scenario)
        self._sane_alone(trial)
        found = explore_schedules(
            trial.execute, preemptions=self.setup.preemptions, deadline=deadline, seed=self.setup.seed,
            max_schedules=max_schedules, beyond=False, session=self.session,
        )  # fmt: skip
        return found, trial

    def _sane_alone(self, trial: Trial) -> None:
        order = tuple(trial.calls)
        first = trial.one_thread(order)
        trial._sequential.pop(order)
        again = trial.one_thread(order)
        for op in order:
            if first[0].get(op) != again[0].get(op):
                raise Nondeterministic(
                    f"{trial.calls[op]} of the same operations by one thread gave {first[0].get(op)}, "
                    f"then {again[0].get(op)}",
                    "give the code no wall clock, random source or state kept between objects",
                )
        if trial.model is not None:
            own = trial.one_thread(order, self.make)
            for op in order:
                if own[0].get(op) != first[0].get(op):
                    raise UsageError(
                        f"the model disagrees with the class in one thread: {trial.calls[op]} gives "
                        f"{own[0].get(op)}, the model {first[0].get(op)}",
                        "correct the model (or the class) first",
                    )

    def explore(self) -> None:
        calls = self.operations.every_call
        if calls is not None:
            self._enumerate(calls)
        else:
            self._draw()
        if self.found.outcome is not None and self.found.outcome.failed and self.best is not None:
            self._shrink(min(raw_monotonic() + SHRINK_S, max(self.deadline, raw_monotonic() + 1.0)))

    def _note(self, scenario: Scenario, found: Found, trial: Trial) -> bool:
        before = self.found
        if found.outcome is not None:
            self.found = found
            self.best, self.trial = scenario, trial
        else:
            before.early = before.early or found.early
            before.capped |= found.capped
            before.wavering |= found.wavering
            before.timed |= found.timed
            before.clocked |= found.clocked
        self.found.schedules = before.schedules + found.schedules
        return found.outcome is not None

    def _enumerate(self, calls: list[Call]) -> None:
        """Every scenario, the small ones first; threads are alike, so their order does not matter.

        First all of them in a few schedules each, for a part of the budget; then to the end what that did not end.
        """
        for call in calls:
            self.pool[call.name].append(call)
        now = raw_monotonic()
        rest: list[Scenario] = []
        done = 0
        scenarios = all_scenarios(calls, self.setup.threads, self.setup.max_ops)
        for scenario in scenarios:
            found, trial = self.attempt(scenario, PER_EXAMPLE, self.deadline)
            if self._note(scenario, found, trial):
                return
            if found.complete:
                done += 1
            else:
                rest.append(scenario)
            if raw_monotonic() > now + (self.deadline - now) * FIRST_LOOK:
                break
        complete = True
        for scenario in itertools.chain(rest, scenarios):
            if raw_monotonic() > self.deadline:
                return
            found, trial = self.attempt(scenario, None, self.deadline)
            if self._note(scenario, found, trial):
                return
            complete &= found.complete
            done += found.complete
        if complete:
            self.found.complete = True
            self.found.bound = self.setup.preemptions
            self.found.scenarios = done

    def _draw(self) -> None:
        simplest = self.operations.simplest()
        for name, call in simplest.items():
            self.pool[name].append(call)
        for pair in itertools.combinations_with_replacement(simplest.values(), 2):
            if raw_monotonic() > self.deadline or self._try(tuple((call,) for call in pair)):
                return
        module = hypothesis()
        explorer = self

        settings = module.settings(
            database=None, deadline=None, max_examples=100_000, phases=[module.Phase.generate],
            suppress_health_check=list(module.HealthCheck), verbosity=module.Verbosity.quiet,
        )  # fmt: skip

        def loop(scenario: Scenario) -> None:
            if raw_monotonic() > explorer.deadline:
                raise _Stop
            for call in itertools.chain(*scenario):
                if call not in explorer.pool[call.name]:
                    explorer.pool[call.name].append(call)
            if explorer._try(scenario):
                raise _Stop

        scenarios = self.operations.scenarios(self.setup.threads, self.setup.max_ops)
        with contextlib.suppress(_Stop):
            module.seed(self.setup.seed)(settings(module.given(scenarios)(loop)))()

    def _try(self, scenario: Scenario) -> bool:
        key = repr(sorted(scenario, key=repr))
        if key in self.tried:
            return False
        self.tried.add(key)
        found, trial = self.attempt(scenario, PER_EXAMPLE, self.deadline)
        found.bound = None
        found.complete = False
        return self._note(scenario, found, trial)

    # -- shrinking: operations, threads, arguments; the schedule is shrunk by `finish`

    def _shrink(self, deadline: float) -> None:
        progress = True
        while progress and raw_monotonic() < deadline:
            progress = False
            for candidate in self._smaller():
                if raw_monotonic() > deadline:
                    return
                found, trial = self.attempt(candidate, PER_EXAMPLE * 4, deadline)
                if found.outcome is not None and found.outcome.failed:
                    self._note(candidate, found, trial)
                    progress = True
                    break

    def _smaller(self) -> Iterator[Scenario]:
        best = self.best or ()
        for thread in range(len(best)):
            if len(best) > 1:
                yield best[:thread] + best[thread + 1 :]
        for thread, calls in enumerate(best):
            for index in range(len(calls)):
                if len(calls) > 1:
                    yield (*best[:thread], calls[:index] + calls[index + 1 :], *best[thread + 1 :])
        for thread, calls in enumerate(best):
            for index, call in enumerate(calls):
                for simpler in sorted(self.pool[call.name], key=_weight)[:3]:
                    if _weight(simpler) < _weight(call):
                        yield (*best[:thread], (*calls[:index], simpler, *calls[index + 1 :]), *best[thread + 1 :])


def _weight(call: Call) -> tuple[int, str]:
    text = str(call)
    return len(text), text


def _model_args(model: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    try:
        inspect.signature(model).bind(*args)
    except (TypeError, ValueError):
        return ()
    return args


def all_scenarios(calls: list[Call], threads: int, max_ops: int) -> Iterator[Scenario]:
    """By number of operations; of fewer threads too, as one more may hide what two do wrong."""
    counts = range(min(2, threads), threads + 1)
    sizes = [s for n in counts for s in itertools.combinations_with_replacement(range(1, max_ops + 1), n)]
    for each in sorted(sizes, key=lambda s: (sum(s), len(s))):
        alike = [
            itertools.combinations_with_replacement(itertools.product(calls, repeat=size), each.count(size))
            for size in sorted(set(each))
        ]
        for parts in itertools.product(*alike):
            yield tuple(itertools.chain(*parts))


_STORES = {"STORE_ATTR", "STORE_SUBSCR", "DELETE_SUBSCR", "DELETE_ATTR", "STORE_GLOBAL"}


def epilogue(cls: Any, model: Any, operations: Operations) -> list[str]:
    """Operations without arguments, called by one thread after all others: queries first."""

    def stores(name: str) -> bool:
        code = getattr(getattr(cls, name, None), "__code__", None)
        return code is None or any(i.opname in _STORES for i in dis.get_instructions(code))

    names = [
        n
        for n, s in operations.strategies.items()
        if s is None and (model is None or hasattr(model, n) or not inspect.isclass(model))
    ]
    return sorted(names, key=lambda n: (stores(n), n))
