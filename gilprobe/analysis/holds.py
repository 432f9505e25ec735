"""How long locks were held (LOCK_HOLD records, with the watchdog on), and who held what others waited for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from gilprobe.analysis.contention import PRIMITIVES, thread_name
from gilprobe.analysis.frames import Site, Stacks, expression_at, subject_of
from gilprobe.model import Frame, Hold, Holder, Wait, WaitKind
from gilprobe.recording import Recording
from gilprobe.recording.schema import HISTOGRAM_BUCKETS, LockHoldFlag

KINDS = {1: "Lock", 2: "RLock"}
MOST_HOLDS, MOST_HOLDERS = 200, 20
Stack = tuple[Frame, ...]


@dataclass(slots=True)
class _Sum:
    count: int = 0
    timed: int = 0
    total_s: float = 0.0
    max_s: float = 0.0
    at_least: bool = False
    open: int = 0
    released: Stack = ()  # of the longest
    histogram: list[int] = field(default_factory=lambda: [0] * HISTOGRAM_BUCKETS)
    threads: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, hold: _Recorded) -> None:
        self.count += hold.count
        self.timed += hold.timed
        self.total_s += hold.total_s
        self.open += hold.open
        self.histogram = [a + b for a, b in zip(self.histogram, hold.histogram, strict=True)]
        self.threads[hold.thread] += hold.total_s
        if hold.max_s >= self.max_s:
            self.max_s, self.at_least, self.released = hold.max_s, hold.at_least, hold.released


@dataclass(frozen=True, slots=True)
class _Recorded:
    """One LOCK_HOLD record, read."""

    kind: str
    name: str
    thread: str
    taken: Stack
    released: Stack
    count: int
    timed: int
    total_s: float
    max_s: float
    at_least: bool
    open: int
    histogram: list[int]


def holds_of(recordings: Sequence[Recording], rows: Sequence[Wait]) -> tuple[tuple[Hold, ...], tuple[Wait, ...]]:
    """(one row for all holds of a lock taken at one stack, the longest first; the waits with those who held)."""
    recorded = [hold for recording in recordings for hold in _recorded(recording)]
    sums: dict[tuple[str, str, Stack], _Sum] = defaultdict(_Sum)
    ended: dict[Stack, dict[tuple[Stack, str], _Sum]] = defaultdict(lambda: defaultdict(_Sum))
    for hold in recorded:
        sums[hold.kind, hold.name, hold.taken].add(hold)
        if hold.released:
            ended[hold.released][hold.taken, hold.thread].add(hold)
    holds = [
        Hold(
            kind=kind,
            name=name,
            count=total.count,
            timed=total.timed,
            total_s=total.total_s,
            max_s=total.max_s,
            at_least=total.at_least,
            open=total.open,
            histogram=tuple(total.histogram),
            taken=taken,
            released=total.released,
            threads=dict(total.threads),
        )
        for (kind, name, taken), total in sums.items()
    ]
    holds.sort(key=lambda hold: -hold.max_s)
    return tuple(holds[:MOST_HOLDS]), tuple(_with_holders(wait, ended) for wait in rows)


def _recorded(recording: Recording) -> Iterator[_Recorded]:
    stacks = Stacks(recording)
    for record in recording.lock_holds:
        sites = stacks.sites(int(record["stack_id"]))
        longest_ns, least_ns = int(record["max_ns"]), int(record["at_least_ns"])
        yield _Recorded(
            kind=KINDS.get(int(record["kind"]), "Lock"),
            name=_name(sites),
            thread=thread_name(recording, int(record["thread"])),
            taken=tuple(site.frame for site in sites),
            released=stacks.frames(int(record["released_stack_id"])),
            count=max(int(record["count"]), int(least_ns > 0)),
            timed=int(record["timed"]),
            total_s=max(int(record["total_ns"]), least_ns) / 1e9,
            max_s=max(longest_ns, least_ns) / 1e9,
            at_least=least_ns > longest_ns,
            open=bool(int(record["flags"]) & LockHoldFlag.OPEN),
            histogram=record["histogram"].tolist(),
        )


def _name(sites: tuple[Site, ...]) -> str:
    site = next((site for site in sites if not site.file.endswith(PRIMITIVES)), None)
    if site is None:
        return "other locks" if not sites else f"a lock in {sites[0].function}"
    expression = subject_of(expression_at(site.file, site.position))
    return f"{expression} in {site.function}" if expression else f"a lock in {site.function}"


def _with_holders(wait: Wait, ended: dict[Stack, dict[tuple[Stack, str], _Sum]]) -> Wait:
    """What ended a wait ended a hold: the holders are those that released at its releasers' stacks."""
    if wait.kind != WaitKind.LOCK:
        return wait
    stacks = {releaser.stack for releaser in wait.releasers}
    threads = {releaser.thread for releaser in wait.releasers}
    holders = [
        Holder(
            stack=taken,
            count=total.count,
            total_s=total.total_s,
            thread=thread,
            max_s=total.max_s,
            histogram=tuple(total.histogram),
        )
        for stack in stacks
        for (taken, thread), total in ended.get(stack, {}).items()
        if thread in threads
    ]
    holders.sort(key=lambda holder: -holder.max_s)
    return replace(wait, holders=tuple(holders[:MOST_HOLDERS])) if holders else wait
