"""Samples that fell in a garbage collection: how much of each thread's CPU, and when.

The sampler reads the interpreter's own flag (gc.collecting); see native/collecting.c for whose collection it is.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from gilprobe.analysis.alike import alike
from gilprobe.analysis.numbering import places_of
from gilprobe.model import Collections, Evidence, Finding, NotObserved, Process, Thread
from gilprobe.recording import Recording
from gilprobe.recording.schema import HeaderFlag, SampleFlag

LEAST_SHARE = 0.05
CURE = (
    "Make fewer objects that the collector must look at: call gc.freeze() once the program is set up, raise "
    "gc.set_threshold() (its default suits small programs), break cycles by hand or with weakref, and keep large "
    "tables in arrays instead of many small objects. gc.disable() around the hot part shows what there is to gain."
)


def collections_of(recordings: Sequence[Recording], start_ns: int) -> Collections:
    """threads are numbered as in Profile.threads."""
    thread, time_ns = array("i"), array("q")
    for recording, places in zip(recordings, places_of(recordings), strict=True):
        found = recording.samples[(recording.samples["flags"] & SampleFlag.COLLECTING) != 0]
        for number, time in zip(found["thread"].tolist(), found["time_ns"].tolist(), strict=True):
            if number in places:
                thread.append(places[number])
                time_ns.append(time - start_ns)
    return Collections(thread, time_ns)


def with_collections(threads: Sequence[Thread], recordings: Sequence[Recording]) -> list[Thread]:
    """Each with the share of its samples that fell in a collection, times its measured CPU."""
    shares: list[tuple[int, int]] = []
    for recording in recordings:
        every: Counter[int] = Counter()
        collecting: Counter[int] = Counter()
        for number, _, flags, count in alike(recording.samples):
            every[number] += count
            collecting[number] += count if flags & SampleFlag.COLLECTING else 0
        shares += [(collecting[number], every[number]) for number in sorted(recording.threads)]
    return [
        replace(thread, gc_s=thread.cpu_s * inside / samples, gc_samples=inside) if inside else thread
        for thread, (inside, samples) in zip(threads, shares, strict=True)
    ]


def with_collecting(
    findings: Sequence[Finding], threads: Sequence[Thread], processes: Sequence[Process]
) -> tuple[Finding, ...]:
    """The findings, in their order, with one on garbage collection where that takes LEAST_SHARE of the time wanted."""
    wanted_s = sum(thread.wanted_s for thread in threads)
    gc_s = sum(thread.gc_s for thread in threads)
    if wanted_s <= 0 or gc_s < LEAST_SHARE * wanted_s:
        return tuple(findings)
    worst = max(threads, key=lambda thread: thread.gc_s)
    samples = sum(thread.gc_samples for thread in threads)
    with_gil = all(process.gil_enabled for process in processes)
    others = "no other thread runs Python meanwhile" if with_gil else "all threads stop while it looks for garbage"
    finding = Finding(
        title=f"Garbage is collected, most in {worst.name}",
        share=gc_s / wanted_s,
        evidence=Evidence.ESTIMATED,
        sites=(),
        cure=CURE,
        kind="gc",
        detail=f"{samples} samples of CPU time fell in a collection; {others}",
    )
    at = next(
        (at for at, other in enumerate(findings)
         if other.kind == "none" or (other.kind != "deadlock" and other.share < finding.share)),
        len(findings),
    )  # fmt: skip
    return (*findings[:at], finding, *findings[at:])


def not_collected(recordings: Sequence[Recording]) -> Iterator[NotObserved]:
    """Where collections could not be seen."""
    unsampled = [r for r in recordings if not r.header["rate_hz"] or not r.flags & HeaderFlag.PYTHON_STACKS]
    if unsampled:
        yield NotObserved(
            "garbage collections", "they are seen by the sampler, which was off or does not know this Python"
        )
