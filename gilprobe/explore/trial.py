"""One scenario of operations on one object: its bodies, and the judgement of what a schedule of it showed."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gilprobe.explore.engine import Bodies, Outcome, Session
from gilprobe.explore.freeze import Freezer, canonical, shape
from gilprobe.explore.linearize import Operation, order_of
from gilprobe.explore.operations import Call, Scenario
from gilprobe.explore.pool import Task
from gilprobe.explore.scheduler import Strategy
from gilprobe.explore.search import Fixed

BLOCKED = ("blocked",)
OpId = tuple[int, int]  # thread, index


@dataclass(slots=True)
class Record:
    """What one run did to one object."""

    target: Any
    freezer: Freezer = field(default_factory=Freezer)
    clock: int = 0
    called: dict[OpId, int] = field(default_factory=dict)
    returned: dict[OpId, int] = field(default_factory=dict)
    results: dict[OpId, Any] = field(default_factory=dict)
    post: list[Any] = field(default_factory=list)
    post_done: bool = False
    at_end: bool = False

    def call(self, op: OpId, call: Call) -> None:
        self.clock += 1
        self.called[op] = self.clock
        result = _outcome(self.target, call, self.freezer)
        self.clock += 1
        self.returned[op] = self.clock
        self.results[op] = result


def _outcome(target: Any, call: Call, freezer: Freezer) -> Any:
    args = copy.deepcopy(call.args) if call.args else ()
    kwargs = copy.deepcopy(dict(call.kwargs)) if call.kwargs else {}
    try:
        return ("returned", freezer(getattr(target, call.name)(*args, **kwargs)))
    except Exception as error:
        return ("raised", type(error).__name__, *(freezer(a) for a in error.args))


class Trial:
    """A scenario; `judge` says what a run of it violates."""

    def __init__(
        self, session: Session, make: Callable[[], Any], scenario: Scenario, *, model: Callable[[], Any] | None = None,
        invariant: Callable[[Any], Any] | None = None, post: list[str] | None = None,
    ) -> None:  # fmt: skip
        self.session = session
        self.make = make
        self.model = model
        self.scenario = scenario
        self.invariant = invariant
        self.post = post or []
        self.calls = {(t, i): call for t, thread in enumerate(scenario) for i, call in enumerate(thread)}
        self.bodies = Bodies(
            setup=lambda: Record(make()),
            bodies=[self._body(t) for t in range(len(scenario))],
            names=[f"T{t + 1}" for t in range(len(scenario))],
            final=lambda record: self._final(record, self.invariant, model is None),
        )
        self._sequential: dict[tuple[OpId, ...], tuple[dict[OpId, Any], Any]] = {}
        self._judged: dict[Any, str | None] = {}

    def _body(self, thread: int) -> Callable[[Record, Task], None]:
        calls = self.scenario[thread]

        def body(record: Record, task: Task) -> None:
            for index, call in enumerate(calls):
                task.op = index
                record.call((thread, index), call)

        return body

    def _final(self, record: Record, invariant: Callable[[Any], Any] | None, attributes: bool) -> None:
        record.at_end = True
        if invariant is not None and invariant(record.target) is False:
            raise AssertionError("the invariant does not hold")
        if attributes:
            record.post.append(_public_state(record.target, record.freezer))
        for name in self.post:
            record.post.append(BLOCKED)
            record.post[-1] = _outcome(record.target, Call(name), record.freezer)
        record.post_done = True

    def execute(self, strategy: Strategy, observer: Any = None) -> Outcome:
        outcome = self.session.execute(self.bodies, strategy, observer)
        record: Record | None = outcome.state
        if outcome.uncontrolled is not None or outcome.inconclusive or record is None:
            return outcome
        if outcome.oracle == "exception" or (outcome.oracle == "invariant"):
            return outcome
        stuck_oracle = outcome.oracle
        if stuck_oracle is not None and record.at_end:
            stuck_oracle = None  # an operation of the epilogue blocks, as it may for one thread alone
            outcome.stuck = []
        key = (
            tuple(sorted(record.called.items())), tuple(sorted(record.returned.items())),
            tuple(sorted(record.results.items(), key=lambda i: i[0])), tuple(record.post), stuck_oracle,
        )  # fmt: skip
        if key not in self._judged:
            self._judged[key] = self._judge(record, stuck_oracle)
        outcome.oracle = self._judged[key]
        return outcome

    # -- linearizability against one thread alone

    def _judge(self, record: Record, stuck: str | None) -> str | None:
        done = sorted(record.results)
        pending = [op for op in record.called if op not in record.results] if stuck else []
        if stuck and not pending:
            return stuck
        history = [Operation(record.called[op], record.returned[op], op) for op in done]
        answered: set[OpId] = set()

        def step(prefix: Any, op: OpId) -> list[Any]:
            result = self.one_thread((*prefix, op))[0].get(op, BLOCKED)
            if result != BLOCKED:
                answered.add(op)
            return [(*prefix, op)] if shape(result) == shape(record.results[op]) else []

        def accept(prefix: Any) -> bool:
            if stuck:
                return all(self.one_thread((*prefix, op))[0].get(op, BLOCKED) == BLOCKED for op in pending)
            results, post = self.one_thread(prefix)
            mine = canonical((*(record.results[op] for op in done), *record.post))
            return bool(mine == canonical((*(results[op] for op in done), *post)))

        if order_of(history, (), step, accept) is not None:
            return None
        if any(op not in answered and self._never_alone(op) for op in done):
            return None  # an operation that one thread alone never gets through: nothing to compare with
        if stuck:
            return stuck
        raised = [op for op in done if record.results[op][0] == "raised"]
        if any(not self._raises_alone(op, record.results[op]) for op in raised):
            return "exception"
        return "linearizability"

    def _never_alone(self, op: OpId) -> bool:
        return all(results.get(op, BLOCKED) == BLOCKED for results, _ in self._sequential.values())

    def _raises_alone(self, op: OpId, result: Any) -> bool:
        return any(results.get(op, BLOCKED)[:2] == result[:2] for results, _ in self._sequential.values())

    def one_thread(self, order: tuple[OpId, ...], make: Callable[[], Any] | None = None) -> tuple[dict[OpId, Any], Any]:
        """The results of the operations run in `order` by one thread, and what the epilogue sees."""
        if make is None and order in self._sequential:
            return self._sequential[order]
        chosen = make or self.model or self.make

        def body(record: Record, task: Task) -> None:
            for op in order:
                record.call(op, self.calls[op])

        plan = Bodies(
            setup=lambda: Record(chosen()), bodies=[body], names=["alone"],
            final=lambda record: self._final(record, None, self.model is None),
        )  # fmt: skip
        outcome = self.session.execute(plan, Fixed(()))
        self.session.schedules -= 1
        if outcome.uncontrolled is not None:
            raise Uncontrolled(outcome)
        record: Record = outcome.state
        found = (dict(record.results), list(record.post))
        if make is None:
            self._sequential[order] = found
        return found


class Uncontrolled(Exception):
    """A blocking call that is not modelled, met while one thread ran alone."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(str(outcome.uncontrolled))
        self.outcome = outcome


def _public_state(target: Any, freezer: Freezer) -> Any:
    """Public attributes and properties by name."""
    found = []
    for name in sorted(getattr(target, "__dict__", {})):
        if not name.startswith("_"):
            frozen = freezer(target.__dict__[name])
            if not hasattr(frozen, "kind"):
                found.append((name, frozen))
    for name in dir(type(target)):
        if not name.startswith("_") and isinstance(inspect.getattr_static(type(target), name), property):
            found.append((name, _outcome(_Property(target), Call("get", (name,)), freezer)))
    return ("state", *found)


class _Property:
    def __init__(self, target: Any) -> None:
        self.target = target

    def get(self, name: str) -> Any:
        return getattr(self.target, name)
