"""What the public functions are given, looked at before anything runs; and where code that wavers differs."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

from gilprobe.errors import UsageError
from gilprobe.explore.observe import Event, Observer
from gilprobe.explore.result import Nondeterministic
from gilprobe.explore.schedules import Execute
from gilprobe.explore.search import Deviations, Fixed

RERUNS = 4  # of one schedule: code that draws at random may do the same twice


def limits(*, threads: Any, max_ops: Any, preemptions: Any, budget_s: Any) -> None:
    for name, value in (("threads", threads), ("max_ops", max_ops), ("preemptions", preemptions)):
        if not isinstance(value, int):
            raise UsageError(f"{name}={value!r} is not a whole number", f"give {name} as an int")
    if threads < 1 or max_ops < 1 or preemptions < 0:
        raise UsageError("threads and max_ops are at least 1, preemptions at least 0", "give larger numbers")
    if not isinstance(budget_s, (int, float)) or not budget_s >= 0:
        raise UsageError(f"budget_s={budget_s!r} is no time", "give seconds, 0 or more")


def callables(**given: Any) -> None:
    for name, value in given.items():
        if value is not None and not callable(value):
            raise UsageError(f"{name}={value!r} is not callable", f"give a function as {name}, or leave it out")


def fits(what: Any, args: tuple[Any, ...], hint: str) -> None:
    """Whether `what` can be called with `args`; what has no signature is let through."""
    try:
        signature = inspect.signature(what, follow_wrapped=False)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        name = getattr(what, "__qualname__", repr(what))
        raise UsageError(f"{name} cannot be called so: {error}", hint) from None


def wavering(execute: Execute, deviations: Deviations, said: str) -> Nondeterministic:
    """The error for a schedule that goes another way each time, naming the first step that does."""
    first = Observer()
    execute(Fixed(deviations), first)
    where = "each step was the same, what came of it was not"
    for _ in range(RERUNS):
        again = Observer()
        execute(Fixed(deviations), again)
        steps = itertools.zip_longest(map(_step, first.events), map(_step, again.events), fillvalue="the end")
        difference = next(((n, a, b) for n, (a, b) in enumerate(steps, 1) if a != b), None)
        if difference is not None:
            where = "step {} differed: {}, then {}".format(*difference)
            break
    return Nondeterministic(
        f"the code under test is not deterministic: {said}; {where}",
        "give it no wall clock, random source or state kept between runs",
    )


def _step(event: Event) -> str:
    value = f" -> {event.before}" if event.before and not event.write else f" = {event.after}" if event.after else ""
    return f"{event.text}{value} ({event.file}:{event.line})"
