"""glibc's allocator as a cause: its locks wait inside libc, where no hook sees them.

What shows: time blocked that the kernel counted and no hook did, in threads whose CPU samples lie in malloc and free.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gilprobe.analysis import cures
from gilprobe.analysis.frames import Stacks
from gilprobe.analysis.native_symbols import Functions
from gilprobe.analysis.stolen import hole_s
from gilprobe.model import Evidence, Finding, Frame, Thread, own_frame
from gilprobe.recording import Image, Recording

LEAST_SHARE = 0.01
# Of a thread's CPU samples: less is ordinary work, which blocks elsewhere.
LEAST_ALLOCATING = 0.2
LEAST_SAMPLES = 5
LEAST_UNSEEN_S = 0.01
FAMILY = {
    "malloc", "free", "calloc", "realloc", "memalign", "aligned_alloc", "malloc_trim", "malloc_usable_size",
    "__default_morecore",
}  # fmt: skip


def allocator_findings(recordings: Sequence[Recording], threads: Sequence[Thread]) -> list[Finding]:
    wanted_s = sum(thread.wanted_s for thread in threads)
    # First what costs nothing: reading libc's symbols takes longer than the whole report of a short run.
    if sum(hole_s(thread) >= LEAST_UNSEEN_S for thread in threads) < 2:
        return []
    unseen_s, blocked, switches, allocating, samples_seen = 0.0, 0, 0, 0, 0
    sites: dict[Frame, int] = {}
    by_tid = {(thread.pid, thread.tid): thread for thread in threads}
    for recording in recordings:
        samples = recording.samples
        inside = _in_allocator(recording)
        if not inside.any():
            continue
        stacks = Stacks(recording)
        for number, recorded in recording.threads.items():
            thread = by_tid.get((recording.header["pid"], recorded["tid"]))
            own = samples["thread"] == number
            if thread is None or own.sum() < LEAST_SAMPLES or (inside & own).sum() < LEAST_ALLOCATING * own.sum():
                continue
            if hole_s(thread) < LEAST_UNSEEN_S:
                continue
            blocked += 1
            unseen_s += hole_s(thread)
            switches += thread.voluntary_switches
            allocating += int((inside & own).sum())
            samples_seen += int(own.sum())
            stack_ids, counts = np.unique(samples["stack_id"][inside & own], return_counts=True)
            for stack_id, count in zip(stack_ids.tolist(), counts.tolist(), strict=True):
                frame = own_frame(stacks.frames(stack_id))
                if frame:
                    sites[frame] = sites.get(frame, 0) + count
    if blocked < 2 or wanted_s <= 0 or unseen_s < LEAST_SHARE * wanted_s:
        return []
    return [
        Finding(
            title="Threads wait where no hook sees it, most likely for libc's memory allocator",
            share=unseen_s / wanted_s,
            evidence=Evidence.ESTIMATED,
            sites=tuple(sorted(sites, key=lambda frame: -sites[frame])[:6]),
            cure=cures.of_allocator(),
            kind="allocator",
            detail=f"{blocked} threads blocked {unseen_s:.3g} s outside every hooked call ({switches} context switches "
            f"to wait); {allocating / samples_seen:.0%} of their CPU is in malloc and free",
        )
    ]


def _in_allocator(recording: Recording) -> NDArray[np.bool_]:
    pcs = recording.samples["pc"]
    inside = np.zeros(len(pcs), np.bool_)
    for image in recording.images:
        low, high = _range_of(image)
        inside |= (pcs >= image.bias + low) & (pcs < image.bias + high)
    return inside


def _range_of(image: Image) -> tuple[int, int]:
    name = image.path.rpartition("/")[2]
    return allocator_range(image.path) if name.startswith(("libc.so", "libc-")) else (0, 0)


@lru_cache(maxsize=16)
def allocator_range(path: str) -> tuple[int, int]:
    """Where malloc.o lies in libc: its inner functions have no names, and lie between its first exported one and the
    one before that. (0, 0) where it cannot be told.
    """
    try:
        exported = list(Functions(Path(path), (".dynsym",)))
    except (ImportError, OSError, ValueError):
        return 0, 0
    family = [(value, size) for value, size, name in exported if name in FAMILY]
    if not family:
        return 0, 0
    first = min(value for value, _ in family)
    before = max((value + size for value, size, _ in exported if value + size <= first), default=first)
    return before, max(value + size for value, size in family)
