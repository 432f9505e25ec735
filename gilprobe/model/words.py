"""Kinds of waits, how a figure was got, and places in code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class WaitKind(StrEnum):
    """Contention: another thread had what this one wanted."""

    GIL = "gil"
    LOCK = "lock"
    OBJECT = "object"
    STOP_THE_WORLD = "stop-the-world"
    IMPORT = "import"
    NATIVE = "native"


class IdleKind(StrEnum):
    """Waiting for work, which is not contention."""

    JOIN = "join"
    CONDITION = "condition"
    QUEUE = "queue"


SLEEP_IO = "sleep-io"


class Evidence(StrEnum):
    MEASURED = "measured"
    ESTIMATED = "estimated"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Frame:
    function: str
    file: str
    line: int


LIBRARY_PARTS = (
    "/threading.py", "/queue.py", "/concurrent/futures/", "/logging/", "/contextlib.py", "<frozen ", "/multiprocessing/"
)  # fmt: skip


def own_frame(stack: Sequence[Frame]) -> Frame | None:
    """The innermost frame that is not the standard library's own waiting code."""
    for frame in stack:
        if not any(part in frame.file for part in LIBRARY_PARTS):
            return frame
    return stack[0] if stack else None
