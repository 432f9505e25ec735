"""gilprobe: why are this program's threads slower than they should be, and what would make them faster?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gilprobe.analysis import load as load
    from gilprobe.record.inside import profile as profile
    from gilprobe.record.spans import span as span
    from gilprobe.record.watching import watchdog as watchdog

    DeadlockError: type[RuntimeError]

__version__ = "0.1.0"

# Imported when first used: a program that only marks spans pays for nothing else.
_WHERE = {
    "load": "gilprobe.analysis",
    "load_ipython_extension": "gilprobe.notebook",
    "profile": "gilprobe.record.inside",
    "span": "gilprobe.record.spans",
    "watchdog": "gilprobe.record.watching",
    "DeadlockError": "gilprobe.record.watching",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
