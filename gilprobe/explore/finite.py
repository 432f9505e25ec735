"""All values of a Hypothesis strategy, where they are few."""

from __future__ import annotations

import itertools
from typing import Any

MOST_VALUES = 8


def values(strategy: Any, most: int = MOST_VALUES) -> list[Any] | None:
    """Everything the strategy can draw, or None: too many, or not known to be few.

    Hypothesis has no public question for this, so its strategies are known by their classes' names
    (hypothesis/strategies/_internal, 6.100 to 6.170); what is not known is taken to be endless.
    """
    kind = type(strategy).__name__
    if kind == "LazyStrategy":
        return values(strategy.wrapped_strategy, most)
    found: list[Any]
    if kind == "BooleansStrategy":
        found = [False, True]
    elif kind in ("SampledFromStrategy", "JustStrategy") and not strategy._transformations:
        found = list(strategy.elements)
    elif kind == "IntegersStrategy" and strategy.start is not None and strategy.end is not None:
        if strategy.end - strategy.start >= most:
            return None
        found = list(range(strategy.start, strategy.end + 1))
    elif kind == "OneOfStrategy":
        found = []
        for part in strategy.original_strategies:
            some = values(part, most)
            if some is None:
                return None
            found += some
    elif kind == "TupleStrategy":
        parts = [values(part, most) for part in strategy.element_strategies]
        if any(part is None for part in parts):
            return None
        found = list(itertools.product(*(part for part in parts if part is not None)))
    else:
        return None
    return found if 0 < len(found) <= most else None
