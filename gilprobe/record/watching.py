"""The watchdog for a part of a program: deadlocks, contradicting lock orders and stalls, told while it runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from gilprobe.errors import PlatformError, UsageError
from gilprobe.native_library import library

LEAST_LIMIT_S, MOST_LIMIT_S = 0.2, 86400.0
MOST_ALLOWED_BYTES = 4095
REACTIONS = ("report", "raise", "abort")
DEADLOCK, STALL, INVERSION = 16, 17, 18  # native/format.h, enum RecordType
UNKNOWN_INTERPRETER, ON_ALREADY = 1, 2


class watchdog:
    """`with gilprobe.watchdog(limit_s=10.0) as dog: ...`: what it finds is told on stderr at once, and kept.

    limit_s: a wait longer than this is a stall. on_deadlock: "report"; "raise" gilprobe.DeadlockError in one of the
    threads that wait for a lock or a join; "abort" the process with status 124. allowed_orders: where locks are made
    (file.py:LINE, or the function's qualified name) that the program takes in an order of its own, which is no fault.

    Only one is on at a time. In a process that is not recorded it sees locks, conditions, joins and imports, but not
    who holds the GIL or a C library's mutex.
    """

    def __init__(
        self, limit_s: float = 10.0, *, on_deadlock: str = "report", allowed_orders: Iterable[str] = ()
    ) -> None:
        if isinstance(limit_s, bool) or not isinstance(limit_s, int | float):
            raise TypeError(f"limit_s is a number of seconds, not {type(limit_s).__name__}")
        if math.isnan(limit_s) or not LEAST_LIMIT_S <= limit_s <= MOST_LIMIT_S:
            raise UsageError(
                f"limit_s={limit_s} is no limit: it must be from {LEAST_LIMIT_S} to {MOST_LIMIT_S:.0f} seconds",
                "Leave it out for 10 s.",
            )
        if on_deadlock not in REACTIONS:
            raise UsageError(f"on_deadlock={on_deadlock!r} is not known", f"Give one of {', '.join(REACTIONS)}.")
        if isinstance(allowed_orders, str):
            raise TypeError("allowed_orders is a list of places, not one str")
        self._allowed = "\n".join(allowed_orders).encode()
        if len(self._allowed) > MOST_ALLOWED_BYTES:
            raise UsageError(f"allowed_orders is longer than {MOST_ALLOWED_BYTES} bytes", "Name functions, not lines.")
        self._limit_ms = round(1000 * limit_s)
        self._reaction = REACTIONS.index(on_deadlock)
        self._first = 0
        self._events: list[tuple[int, dict[str, Any]]] = []
        self._on = False

    def __enter__(self) -> watchdog:
        native = _watching()
        self._events, self._first = [], _count(native)
        answer = _starter()(self._limit_ms, self._reaction, self._allowed)
        if answer == ON_ALREADY:
            raise UsageError("a watchdog is on already", "Use one at a time.")
        if answer == UNKNOWN_INTERPRETER:
            raise PlatformError("the watchdog does not know this interpreter", "CPython 3.11 to 3.15 can be watched.")
        self._on = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _watching().gilprobe_watch_stop()
        self._collect()
        self._on = False

    @property
    def deadlocks(self) -> list[dict[str, Any]]:
        """As deadlocks[] in the JSON report; locks have their addresses as names."""
        return self._told(DEADLOCK)

    @property
    def stalls(self) -> list[dict[str, Any]]:
        return self._told(STALL)

    @property
    def inversions(self) -> list[dict[str, Any]]:
        """As lock_order[] in the JSON report."""
        return self._told(INVERSION)

    def _told(self, kind: int) -> list[dict[str, Any]]:
        if self._on:
            self._collect()
        return [event for told, event in self._events if told == kind]

    def _collect(self) -> None:
        import ctypes

        native, kind = _watching(), ctypes.c_int()
        while text := native.gilprobe_watch_told(self._first + len(self._events), ctypes.byref(kind)):
            event = json.loads(text.decode("utf-8", "replace"))
            _without_positions(event)
            self._events.append((kind.value, event))


def _watching() -> Any:
    """The recorder's library, loaded on first use. Raises PlatformError where there is none."""
    import ctypes

    global _library
    if _library is None:
        native = ctypes.CDLL(str(library()))
        native.gilprobe_watch_told.argtypes = [ctypes.c_uint, ctypes.POINTER(ctypes.c_int)]
        native.gilprobe_watch_told.restype = ctypes.c_char_p
        _library = native
    return _library


_library: Any = None


def _starter() -> Any:
    """Called with the GIL, which the stopping, that waits for the watchdog's thread, must not be."""
    import ctypes

    start = ctypes.PyDLL(str(library())).gilprobe_watch_start
    start.argtypes = [ctypes.c_uint, ctypes.c_int, ctypes.c_char_p]
    return start


def _count(native: Any) -> int:
    import ctypes

    at, kind = 0, ctypes.c_int()
    while native.gilprobe_watch_told(at, ctypes.byref(kind)):
        at += 1
    return at


def _without_positions(part: Any) -> None:
    if isinstance(part, dict):
        part.pop("position", None)
        for value in part.values():
            _without_positions(value)
    elif isinstance(part, list):
        for value in part:
            _without_positions(value)


def __getattr__(name: str) -> Any:
    """DeadlockError is made by the library, once, whether or not the program has imported gilprobe."""
    if name != "DeadlockError":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import ctypes

    native = ctypes.PyDLL(str(library()))
    native.gilprobe_deadlock_error.restype = ctypes.py_object
    return native.gilprobe_deadlock_error()
