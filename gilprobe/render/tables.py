"""What the formats of other tools have in common: every text and frame once and by its number, threads by their ids."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, TypeVar

from gilprobe.model import SLEEP_IO, Frame, Profile, SampledStack, Timeline, Wait, own_frame
from gilprobe.render.wording import place, plain

Key = TypeVar("Key", bound=Hashable)
MOST_TEXT = 1000
MOST_EVENTS = 1_000_000  # single waits in a file that a browser shall open

# Threads of one process that had one id after another get ids above the kernel's highest (PID_MAX_LIMIT, 2^22).
ABOVE_ALL_TIDS = 1 << 22


class Numbers(Generic[Key]):
    """Numbers from `first` up, in the order the keys are met."""

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.numbers: dict[Key, int] = {}

    def __getitem__(self, key: Key) -> int:
        return self.numbers.setdefault(key, len(self.numbers) + self.first)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


class Strings:
    """A string table of printable texts that end somewhere."""

    def __init__(self, *known: str) -> None:
        self.numbers: dict[str, int] = {}
        self.cleaned: dict[str, int] = {}
        for text in known:
            self[text]

    def __getitem__(self, text: str) -> int:
        number = self.numbers.get(text)
        if number is None:
            shown = plain(text, MOST_TEXT)
            number = self.numbers[text] = self.cleaned.setdefault(shown, len(self.cleaned))
        return number

    def list(self) -> list[str]:
        return list(self.cleaned)


def unique_tids(profile: Profile) -> list[int]:
    """An id for each of profile.threads that no other thread of its process has."""
    used: set[tuple[int, int]] = set()
    tids = []
    for index, thread in enumerate(profile.threads):
        tid = thread.tid if (thread.pid, thread.tid) not in used else ABOVE_ALL_TIDS + index
        used.add((thread.pid, tid))
        tids.append(tid)
    return tids


def longest(timeline: Timeline) -> tuple[Sequence[int], int]:
    """Rows of the MOST_EVENTS longest waits, in their order, and how many shorter ones that leaves out."""
    count = len(timeline.start_ns)
    if count <= MOST_EVENTS:
        return range(count), 0
    rows = sorted(range(count), key=timeline.duration_ns.__getitem__, reverse=True)[:MOST_EVENTS]
    return sorted(rows), count - MOST_EVENTS


def releaser_of(profile: Profile, timeline: Timeline, row: int) -> str:
    """`worker at cache.py:20 in put`, as much of it as is known."""
    thread, index, release = timeline.releaser[row], timeline.wait[row], timeline.release[row]
    name = plain(profile.threads[thread].name) if thread >= 0 else ""
    if index < 0 or release < 0:
        return name
    frame = own_frame(profile.waits[index].releasers[release].stack)
    return f"{name or '?'} at {place(frame)}" if frame else name


def wait_class(wait: Wait | None) -> str:
    """wait, idle or sleep."""
    return "sleep" if wait is None else "idle" if wait.idle else "wait"


def wait_title(wait: Wait | None) -> str:
    """`lock: self._lock in Cache.get`"""
    if wait is None:
        return SLEEP_IO
    return f"{wait.kind}: {wait.name}" if wait.name else wait.kind


def leaf_of(wait: Wait) -> Frame:
    """The innermost frame of a stack that is off the CPU."""
    return Frame(f"[{wait_class(wait)}: {wait.kind}]", "", 0)


STATES = {"held": "[holds the GIL]", "running": "[without the GIL]", "waiting": "[waiting]", "idle": "[idle]"}


def state_leaf(seen: SampledStack) -> Frame:
    """The innermost frame of a stack that py-spy saw: what the thread did then."""
    return Frame(STATES.get(seen.state, f"[{seen.state}]"), "", 0)
