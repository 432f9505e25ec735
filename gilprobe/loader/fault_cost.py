"""What a page fault costs on this machine: the recorder counts faults, and this turns them into time."""

from __future__ import annotations

import mmap
from threading import Lock

from gilprobe.record import spans

# The analysis reads this number from the names of the spans (gilprobe/analysis/loader.py).
PAGES = 1024

_lock = Lock()
_measured = False


def measure_once() -> None:
    """Writes to each of 1024 new pages, then to each again, in spans of their own. Only where a recorder is."""
    global _measured
    if _measured or not spans.connected():
        return
    with _lock:
        if _measured:
            return
        _measured = True
    with mmap.mmap(-1, PAGES * mmap.PAGESIZE) as memory:
        # A huge page would be one fault for 512 of them.
        memory.madvise(getattr(mmap, "MADV_NOHUGEPAGE", 15))
        for name in (f"loader.touch-new-{PAGES}", f"loader.touch-again-{PAGES}"):
            with spans.span(name):
                for at in range(0, PAGES * mmap.PAGESIZE, mmap.PAGESIZE):
                    memory[at] = 1
