"""Twenty bugs by a writer who knew the explorer by its signatures alone, each with a twin that differs by the fix.

The racy method is the only thing a twin overrides: what else a case holds is ordinary code around it.
"""

from __future__ import annotations

from . import caches, locks, pools, services, waiting
from .case import Case, Kind, Oracle, Setup

__all__ = ["CASES", "Case", "Kind", "Oracle", "Setup"]

CASES: tuple[Case, ...] = (*pools.CASES, *services.CASES, *locks.CASES, *waiting.CASES, *caches.CASES)
