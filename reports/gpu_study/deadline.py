"""The end of a call's time, whatever it is at just then."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


class TimeUp(Exception):
    """Raised in the main thread out of whatever it waits for."""


@contextmanager
def until(end_s: float) -> Iterator[None]:
    """Leaves its block at end_s (on time.monotonic), or at SIGTERM: what follows it still runs."""

    def ring(number: int, _: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(f"Broken off: {'the time is up' if number == signal.SIGALRM else 'told to end'}.", flush=True)
        raise TimeUp

    before = {number: signal.signal(number, ring) for number in (signal.SIGALRM, signal.SIGTERM)}
    signal.setitimer(signal.ITIMER_REAL, max(0.01, end_s - time.monotonic()))
    try:
        with suppress(TimeUp):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
