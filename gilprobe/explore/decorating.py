"""`interleave` for tests and `state_machine` for Hypothesis's rule-based machines."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from gilprobe.errors import UsageError
from gilprobe.explore.bodies import run
from gilprobe.explore.check import check
from gilprobe.explore.operations import hypothesis
from gilprobe.explore.result import FAILED, UNCONTROLLED, ExploreFailure, Result

Test = Callable[..., Any]


def interleave(test: Test | None = None, /, **options: Any) -> Any:
    """Runs a test in every schedule the budget allows; raises ExploreFailure when one fails it or cannot be controlled.

    A test that starts threads itself is run as it is. With `state=` it is a body: `threads` of it share what `state()`
    makes. A test without arguments that starts no thread is run by `threads` threads at once.
    """
    if test is not None:
        return interleave(**options)(test)

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def explored(*args: Any, **kwargs: Any) -> None:
            result = _explore(test, args, kwargs, dict(options))
            if result.verdict in (FAILED, UNCONTROLLED):
                raise ExploreFailure(result) from result.error

        if "state" in options:  # its first argument is no fixture
            signature = inspect.signature(test)
            explored.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]
        return explored

    return decorate


def _explore(test: Test, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]) -> Result:
    threads = options.get("threads", 2)
    if "state" in options:

        @_like(test)
        def shared(state: Any) -> None:
            test(state, *args, **kwargs)

        return run(*[shared] * threads, **options)
    started: list[int] = []

    @_like(test)
    def body(_state: Any) -> None:
        from gilprobe.explore.primitives import current

        test(*args, **kwargs)
        here = current()
        if here is not None:
            started.append(len(here[0].tasks))

    options.pop("state", None)
    if "threads" not in options or _takes_own_threads(test):
        result = run(body, state=_nothing, restore_globals=True, **options)
        if result.failed or any(count > 2 for count in started):
            return result
    return run(*[body] * threads, state=_nothing, restore_globals=True, **options)


def _takes_own_threads(test: Test) -> bool:
    names = set(getattr(getattr(test, "__func__", test), "__code__", compile("", "", "exec")).co_names)
    return bool(names & {"Thread", "ThreadPoolExecutor", "start", "submit", "start_new_thread", "Timer", "ThreadPool"})


def _like(test: Test) -> Callable[[Test], Test]:
    def rename(function: Test) -> Test:
        function.__name__ = getattr(test, "__name__", "test")
        function.__wrapped__ = test  # type: ignore[attr-defined]
        return function

    return rename


def _nothing() -> None:
    return None


def state_machine(machine: Any, **options: Any) -> Result:
    """Lets threads run the rules of a hypothesis.stateful.RuleBasedStateMachine on one machine at once.

    Its invariants are checked when all have ended. Rules that take bundles cannot be drawn; preconditions are tested
    just before a rule runs, which is a step of its own.
    """
    hypothesis()
    from hypothesis.stateful import RuleBasedStateMachine

    if not (isinstance(machine, type) and issubclass(machine, RuleBasedStateMachine)):
        raise UsageError(f"{machine!r} is not a RuleBasedStateMachine", "for other classes there is check()")
    initial, found, invariants = _parts(machine)
    rules = {rule.function.__name__: rule for rule in found}
    if not rules:
        raise UsageError(f"{machine.__name__} has no rules", "decorate its methods with @rule()")
    operations: dict[str, Any] = {}
    st = hypothesis().strategies
    for name, rule in rules.items():
        for argument, strategy in rule.arguments.items():
            if type(strategy).__name__ in ("Bundle", "BundleReferenceStrategy", "BundleConsumer"):
                raise UsageError(f"{machine.__name__}.{name} draws {argument} from a bundle", "draw it from a strategy")
        operations[name] = st.fixed_dictionaries(dict(rule.arguments)) if rule.arguments else ()
    given = options.pop("invariant", None)

    def invariant(target: Any) -> bool:
        for each in invariants:
            each.function(target.machine)
        return given is None or given(target.machine) is not False

    proxy = type(machine.__name__, (_Machine,), {"machine_class": machine, "rules": rules, "initial": initial})
    proxy.__module__ = machine.__module__
    for name in rules:
        setattr(proxy, name, functools.partialmethod(_Machine.run_rule, name))
    return check(proxy, operations=operations, invariant=invariant, **options)


def _parts(machine: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Initializers, rules and invariants; newer Hypothesis keeps them in one object, older in three methods."""
    if hasattr(machine, "setup_state"):
        state = machine.setup_state()
        return list(state.initializers), list(state.rules), list(state.invariants)
    return list(machine.initialize_rules()), list(machine.rules()), list(machine.invariants())


class _Machine:
    """A machine's rules as operations."""

    machine_class: Any
    rules: dict[str, Any]
    initial: list[Any]

    def __init__(self) -> None:
        self._machine = self.machine_class()
        for rule in self.initial:
            rule.function(self._machine)

    @property
    def machine(self) -> Any:
        return self._machine

    def run_rule(self, name: str, **arguments: Any) -> None:
        rule = self.rules[name]
        if all(precondition(self._machine) for precondition in rule.preconditions):
            rule.function(self._machine, **arguments)
