"""The longest holds of the GIL: what ran meanwhile, down to the native function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gilprobe.analysis.frames import Stacks
from gilprobe.analysis.native_symbols import NativeCode
from gilprobe.model import Finding, Frame, GilHold, NativeFunction, WaitKind
from gilprobe.recording import Recording
from gilprobe.recording.schema import EndKind

MOST_OF_A_THREAD = 5
MOST_FUNCTIONS = 3
LONG_S = 0.05  # ten times the interpreter's switch interval (sys.getswitchinterval)
BLOCKED_SHARE = 0.5  # of a hold: then the C function that slept or waited is what held it


def gil_holds_of(recordings: Sequence[Recording], start_ns: int) -> tuple[GilHold, ...]:
    """Up to MOST_OF_A_THREAD a thread; those that kept others waiting first, the longest first."""
    holds = [hold for recording in recordings for hold in _of_process(recording, start_ns)]
    return tuple(sorted(holds, key=_rank))


def with_longest_hold(findings: Sequence[Finding], holds: Sequence[GilHold]) -> tuple[Finding, ...]:
    """The findings, that on the GIL with the longest hold that others waited for, where it is no ordinary turn."""
    longest = max((hold for hold in holds if hold.waiters), key=lambda hold: hold.held_s, default=None)
    if longest is None or longest.held_s < LONG_S:
        return tuple(findings)
    inside = f", in {longest.native[0].name} of {longest.native[0].library}" if longest.native else ""
    told = f"the longest hold that others waited for: {longest.held_s * 1e3:.3g} ms by {longest.thread}{inside}"
    return tuple(
        replace(finding, detail="; ".join(filter(None, (finding.detail, told))))
        if finding.kind == WaitKind.GIL
        else finding
        for finding in findings
    )


def _rank(hold: GilHold) -> tuple[bool, float]:
    return not hold.waiters, -hold.held_s


def _of_process(recording: Recording, start_ns: int) -> Iterator[GilHold]:
    records = [*(r for r in recording.long_holds if r["end_ticks"]), *_going_on(recording)]
    if not records:
        return
    stacks, code = Stacks(recording), NativeCode(recording.images)
    samples = recording.samples[np.lexsort((recording.samples["time_ns"], recording.samples["thread"]))]
    of_thread: dict[int, list[GilHold]] = {}
    for record in records:
        if record["thread"] in recording.threads:
            of_thread.setdefault(record["thread"], []).append(_hold(recording, record, samples, stacks, code, start_ns))
    for holds in of_thread.values():
        yield from sorted(holds, key=_rank)[:MOST_OF_A_THREAD]


def _going_on(recording: Recording) -> Iterator[dict[str, int]]:
    """A process that was killed, or goes on, has a thread that holds it."""
    if recording.header["end_kind"] not in (EndKind.NONE, EndKind.STOP):
        return
    for number, thread in recording.threads.items():
        if thread["gil_since_ticks"] and not thread["end_ns"]:
            yield {"thread": number, "stack_id": 0, "waiters": 0, "blocked_stack_id": 0, "blocked_ns": 0,
                   "start_ticks": thread["gil_since_ticks"], "end_ticks": 0}  # fmt: skip


def _hold(
    recording: Recording, record: dict[str, int], samples: Any, stacks: Stacks, code: NativeCode, start_ns: int
) -> GilHold:
    """samples: of all threads, by thread and time."""
    thread = recording.threads[record["thread"]]
    begin, end = (int(ns) for ns in recording.ticks_to_ns(np.array([record["start_ticks"], record["end_ticks"]], "u8")))
    if not record["end_ticks"]:
        end = max(begin, recording.end_ns)
    threads, number = samples["thread"], record["thread"]
    own = samples[np.searchsorted(threads, number) : np.searchsorted(threads, number, side="right")]
    inside = own[np.searchsorted(own["time_ns"], begin) : np.searchsorted(own["time_ns"], end, side="right")]
    blocked = record["blocked_ns"] >= BLOCKED_SHARE * (end - begin) > 0
    if blocked:
        stack = stacks.frames(record["blocked_stack_id"])
        functions = _caller(stacks.native(record["blocked_stack_id"]), code)
    else:
        stack = _most_sampled(inside, stacks) or stacks.frames(record["stack_id"])
        functions = _functions(inside, code)
    return GilHold(
        thread=thread.name,
        tid=thread["tid"],
        pid=recording.header["pid"],
        start_s=(begin - start_ns) / 1e9,
        held_s=(end - begin) / 1e9,
        waiters=record["waiters"],
        stack=stack,
        native=functions,
        samples=len(inside),
        blocked_s=record["blocked_ns"] / 1e9,
        open=not record["end_ticks"],
    )


def _most_sampled(samples: Any, stacks: Stacks) -> tuple[Frame, ...]:
    counts = Counter(samples["stack_id"][samples["stack_id"] > 0].tolist())
    return stacks.frames(counts.most_common(1)[0][0]) if counts else ()


def _functions(samples: Any, code: NativeCode) -> tuple[NativeFunction, ...]:
    """The innermost native functions by falling share (0-1) of the hold's samples."""
    counts = Counter(code.function_at(pc) for pc in samples["pc"].tolist())
    return tuple(
        NativeFunction(name, library, count / len(samples))
        for (name, library), count in counts.most_common(MOST_FUNCTIONS)
    )


def _caller(addresses: Sequence[int], code: NativeCode) -> tuple[NativeFunction, ...]:
    """The innermost function that is neither libc's nor unknown to belong to any file: who slept, read or waited."""
    found = [code.function_at(address - 1) for address in addresses]  # return addresses
    own = [(name, library) for name, library in found if library and not library.startswith(("libc.", "libc-"))]
    return (NativeFunction(*own[0], 1.0),) if own else ()
