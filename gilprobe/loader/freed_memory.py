"""glibc made to keep what a batch let go of.

By default each thread's heap gives back what is free at its top beyond 128 KB to 64 MB (it depends on what was freed
before), so that a batch of pictures is faulted in anew each time: by threads of one process, which contend for its
memory map. Measured by `python -m reports.loader bars`, two_workers_over_bare_threads.
"""

from __future__ import annotations

import ctypes
import os
from threading import Lock

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# A heap of another thread than the main one is 64 MB at most, and mallopt takes half of it for the other
# (malloc/arena.c and malloc.c, HEAP_MAX_SIZE).
KEPT_BYTES = 64 << 20
_MAPPED_BYTES = 32 << 20

_lock = Lock()
_asked = False


def keep_once() -> None:
    """For the whole process, and once. Not where the user has set glibc's own variables, or where it is not glibc."""
    global _asked
    with _lock:
        if _asked:
            return
        _asked = True
    if "malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        # Setting one stops glibc from adapting the other.
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
