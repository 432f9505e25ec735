"""What a recording lacks, whatever it was asked for: lost, cut short, damaged, or beyond what this machine lets see."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from gilprobe.model import NotObserved
from gilprobe.recording import RecordedThread, Recording
from gilprobe.recording.schema import EndKind, HeaderFlag, WaitFlag

# Expected samples above which having less than a tenth of them is no chance.
FEW_SAMPLES = 20


def not_recorded(recordings: Sequence[Recording]) -> tuple[NotObserved, ...]:
    missing: list[NotObserved] = []
    for recording in recordings:
        header, where = recording.header, f"process {recording.header['pid']}"
        if header["lost_records"]:
            reason = _error(header["lost_errno"]) if header["lost_errno"] else "no room"
            missing.append(
                NotObserved(f"{header['lost_records']} records of {where}", f"could not be written: {reason}")
            )
        missing += [NotObserved(f"a part of {where}", damage) for damage in recording.damage]
        missing += _shortened(recording, where)
        if header["lost_samples"]:
            missing.append(
                NotObserved(f"{header['lost_samples']} samples of {where}", "came while the recorder was busy")
            )
        if not recording.flags & HeaderFlag.PYTHON_STACKS:
            missing.append(NotObserved(f"Python stacks of {where}", f"Python {recording.python_version} is not known"))
        if header["end_kind"] == EndKind.NONE:
            missing.append(NotObserved(f"the end of {where}", "it was killed, crashed, or still runs"))
        missing += [
            NotObserved(f"samples of {thread.name or thread['tid']} in {where}", "it blocks the sampler's signal")
            for thread in recording.threads.values()
            if FEW_SAMPLES < _cpu_s(thread) * header["rate_hz"] > 10 * thread["samples"]
        ]
        if header["sampler_errno"] and header["rate_hz"]:
            missing.append(_without_perf(recording, where))
    if not any(recording.header["rate_hz"] for recording in recordings):
        missing.append(NotObserved("hot_objects", "the sampler was off (--rate 0)"))
    elif not any(recording.free_threaded for recording in recordings):
        missing.append(NotObserved("hot_objects", "with the GIL, threads do not fight over reference counts"))
    return tuple(missing)


def _without_perf(recording: Recording, where: str) -> NotObserved:
    """One step down: to the timer, whose signals the kernel sends at its own ticks; below it nothing is sampled."""
    refused = _error(recording.header["sampler_errno"])
    if recording.flags & HeaderFlag.SAMPLED_TIMER:
        return NotObserved(f"perf in {where}", f"{refused}: the thread CPU timer serves, up to the kernel's tick rate")
    return NotObserved(f"CPU samples of {where}", f"perf: {refused}, and no timer: no hot objects, no sampled stacks")


def _shortened(recording: Recording, where: str) -> Iterator[NotObserved]:
    waits = recording.waits
    overflown = int(waits["count"][(waits["flags"] & WaitFlag.OVERFLOW) > 0].sum())
    if overflown:
        yield NotObserved(f"stacks and releasers of {overflown} waits of {where}", "more different waits than it keeps")
    truncated = sum(stack.truncated for stack in recording.stacks.values())
    if truncated:
        yield NotObserved(f"outer frames of {truncated} stacks of {where}", "deeper than it keeps")
    unseen = recording.metas.get("unseen_threads", b"").decode("ascii", "replace")
    if unseen.isdigit():
        yield NotObserved(f"{unseen} threads of {where}", "blocked since before the recording began, they never showed")
    merged = sum(span["count"] for span in recording.spans.values() if span.overflow)
    if merged:
        yield NotObserved(f"names of {merged} spans of {where}", "more different ones in a thread than it keeps")
    unread = [thread for thread in recording.threads.values() if not thread["read_ns"]]
    brief = sum(bool(thread["end_ns"]) for thread in unread)
    if brief:
        yield NotObserved(
            f"CPU of {brief} threads of {where} that lived less than 0.5 ms",
            "estimated: as much of their lives as others took that were read",
        )
    if len(unread) > brief:
        what = f"CPU and run delay of {len(unread) - brief} threads of {where}"
        yield NotObserved(what, "the kernel's figures were never read")


def _cpu_s(thread: RecordedThread) -> float:
    return max(0, thread["cpu_ns"] - thread["start_cpu_ns"]) / 1e9


def _error(number: int) -> str:
    return os.strerror(number) if number < 4096 else f"error {number}"
