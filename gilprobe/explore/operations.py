"""What the threads may call: the public methods of a class, with arguments drawn by Hypothesis."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from gilprobe.errors import GilprobeError, UsageError
from gilprobe.explore import finite

MOST_CALLS = 8  # with arguments; of more the scenarios are drawn, as they could not all be run


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of a scenario."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        shown = [_short(a) for a in self.args] + [f"{k}={_short(v)}" for k, v in self.kwargs]
        return f"{self.name}({', '.join(shown)})"


Scenario = tuple[tuple[Call, ...], ...]  # per thread


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def hypothesis() -> Any:
    try:
        import hypothesis as module
    except ImportError:
        raise GilprobeError(
            "drawing arguments of operations needs hypothesis, which is not installed",
            "pip install 'gilprobe[explore]'",
        ) from None
    return module


class Operations:
    """By name: a Hypothesis strategy of `Call`s, or None where there is nothing to draw."""

    def __init__(self, cls: Any, given: Any) -> None:
        self.strategies: dict[str, Any] = {}
        self.alternatives: dict[str, list[Call] | None] = {}
        names = list(given) if given is not None else sorted(_public(cls))
        if not names:
            raise UsageError(
                f"{_name(cls)} has no public method to call", "name some with operations={'method': strategy}"
            )
        for name in names:
            if not callable(getattr(cls, name, None)) and inspect.isclass(cls):
                raise UsageError(f"{_name(cls)} has no method {name}", "operations maps names of methods to strategies")
            strategy = given.get(name) if isinstance(given, Mapping) else None
            arguments = _given(name, strategy) if strategy is not None else _default(cls, name)
            self.alternatives[name] = _alternatives(name, arguments)
            self.strategies[name] = arguments if arguments is None else arguments.map(functools.partial(_as_call, name))

    @property
    def every_call(self) -> list[Call] | None:
        """All calls that can be drawn; None: more than can be enumerated."""
        found: list[Call] = []
        for calls in self.alternatives.values():
            if calls is None:
                return None
            found += calls
        return found if all(s is None for s in self.strategies.values()) or len(found) <= MOST_CALLS else None

    def simplest(self) -> dict[str, Call]:
        return {
            name: Call(name) if strategy is None else _simplest(strategy) for name, strategy in self.strategies.items()
        }

    def scenarios(self, threads: int, max_ops: int) -> Any:
        st = hypothesis().strategies
        one = st.one_of(*(st.just(Call(n)) if s is None else s for n, s in self.strategies.items()))
        thread = st.lists(one, min_size=1, max_size=max_ops).map(tuple)
        return st.lists(thread, min_size=threads, max_size=threads).map(tuple)


def _alternatives(name: str, arguments: Any) -> list[Call] | None:
    if arguments is None:
        return [Call(name)]
    found = finite.values(arguments)
    return None if found is None else [_as_call(name, drawn) for drawn in found]


def _public(cls: Any) -> list[str]:
    found = []
    for name in dir(cls):
        if name.startswith("_"):
            continue
        value = inspect.getattr_static(cls, name)
        if isinstance(value, (FunctionType, classmethod, staticmethod)) or (
            callable(value) and not isinstance(value, (type, property))
        ):
            found.append(name)
    return found


def _name(cls: Any) -> str:
    return getattr(cls, "__qualname__", repr(cls))


def _simplest(strategy: Any) -> Call:
    module = hypothesis()
    settings = module.settings(database=None, max_examples=50, deadline=None)
    found: Call = module.find(strategy, lambda _: True, settings=settings)
    return found


def _given(name: str, strategy: Any) -> Any:
    if strategy in ((), None):
        return None
    if isinstance(strategy, (tuple, list)):
        strategy = hypothesis().strategies.tuples(*strategy)
    if not hasattr(strategy, "map"):
        raise UsageError(
            f"operations[{name!r}] is not a Hypothesis strategy", "give a strategy of the argument or a tuple"
        )
    return strategy


def _as_call(name: str, drawn: Any) -> Call:
    if isinstance(drawn, tuple):
        return Call(name, drawn)
    if isinstance(drawn, dict) and drawn and all(isinstance(k, str) for k in drawn):
        return Call(name, (), tuple(drawn.items()))
    return Call(name, (drawn,))


def _default(cls: Any, name: str) -> Any:
    method: Callable[..., Any] = getattr(cls, name)
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):
        raise _cannot(cls, name, "its signature is unknown") from None
    try:
        hints = typing.get_type_hints(method)
    except Exception:
        hints = {}
    drawn = []
    static = isinstance(inspect.getattr_static(cls, name), (staticmethod, classmethod))
    for position, parameter in enumerate(signature.parameters.values()):
        if position == 0 and not static and inspect.isclass(cls):
            continue
        if (
            parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            or parameter.default is not parameter.empty
        ):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise _cannot(cls, name, f"its argument {parameter.name} is keyword-only")
        hint = hints.get(parameter.name, parameter.annotation)
        if hint is parameter.empty or isinstance(hint, str):
            raise _cannot(cls, name, f"its argument {parameter.name} has no annotation")
        drawn.append(_strategy(cls, name, hint))
    if not drawn:
        return None
    return hypothesis().strategies.tuples(*drawn)


def _strategy(cls: Any, name: str, hint: Any) -> Any:
    st = hypothesis().strategies
    # Few values, so that two threads meet on the same one.
    if hint is int:
        return st.integers(0, 2) | st.integers(-100, 100)
    if hint is str:
        return st.sampled_from(["a", "b"]) | st.text(max_size=3)
    if hint is float:
        return st.integers(0, 2).map(float) | st.floats(-100, 100)
    if hint in (Any, object, typing.Hashable) or isinstance(hint, typing.TypeVar):
        return st.integers(0, 2)
    try:
        strategy = st.from_type(hint)
        strategy.validate()
    except Exception:
        raise _cannot(cls, name, f"nothing can be drawn for {hint!r}") from None
    return strategy


def _cannot(cls: Any, name: str, why: str) -> UsageError:
    return UsageError(
        f"cannot draw the arguments of {_name(cls)}.{name}: {why}",
        f"give operations={{{name!r}: a Hypothesis strategy of its arguments}}",
    )
