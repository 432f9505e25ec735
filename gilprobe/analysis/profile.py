"""From a recording on the disk to the Profile."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gilprobe.analysis.accounting import account, threads_of
from gilprobe.analysis.advice import findings
from gilprobe.analysis.contention import classified_waits, wait_rows
from gilprobe.analysis.cpu_stacks import cpu_stacks_of
from gilprobe.analysis.overview import overview_of
from gilprobe.analysis.py_spy import spied
from gilprobe.analysis.spans import spans_of
from gilprobe.analysis.timeline import timeline_of
from gilprobe.analysis.watched import not_watched, watched
from gilprobe.model import NotObserved, Process, Profile, Thread
from gilprobe.recording import RecordedThread, Recording, read_folder
from gilprobe.recording.schema import EndKind, HeaderFlag, WaitFlag

NOT_BUILT = (
    ("loader", "recorded only from gilprobe.loader's own statistics"),
    ("cuda", "CUDA tracking is not built yet"),
)


UNDECODED = "without it samples cannot be decoded, and CPU lost to shared cache lines counts as useful"
NO_CACHE_EVENTS = (
    "no hardware counter was read: hot objects rest on sampled registers alone (gilprobe doctor tells what there is)"
)


def load(path: str | os.PathLike[str], *, salvage: bool = False) -> Profile:
    """The Profile of a recording folder. Raises RecordingError where it cannot be read (see read_folder)."""
    recordings = read_folder(Path(path), salvage=salvage)
    waits = [wait for recording in recordings for wait in classified_waits(recording)]
    threads = _threads(recordings, waits)
    hot_objects: tuple[Any, ...] = ()
    span_samples: dict[tuple[int, int], tuple[int, int]] = {}
    sampled = [recording for recording in recordings if len(recording.samples)]
    undecoded: list[NotObserved] = []
    if any(recording.free_threaded for recording in sampled):
        from gilprobe.analysis.atomics import hot_objects_of, with_stalls

        try:
            hot_objects, stalls, span_samples = hot_objects_of(sampled)
            threads = with_stalls(threads, stalls)
            undecoded += _undecoded(sampled)
        except ImportError as error:
            undecoded.append(NotObserved("hot_objects", f"{error.name or error} is not installed: {UNDECODED}"))
    start_ns = min(recording.header["start_ns"] for recording in recordings)
    wall_s = (max(recording.end_ns for recording in recordings) - start_ns) / 1e9
    rows = wait_rows(waits)
    processes = tuple(_process(recording) for recording in recordings)
    accounting = account(threads, wall_s)
    deadlocks, stalls_told, lock_order = watched(recordings)
    outside = spied(recordings, waits)
    meta = _meta(recordings[0], wall_s, threads, sum(len(recording.samples) for recording in recordings))
    if outside.by:
        meta |= {"stacks_by": outside.by, "stacks_cpu_s": outside.cpu_s}
    timeline = timeline_of(recordings, waits, rows, start_ns)
    return Profile(
        meta=meta,
        processes=processes,
        threads=tuple(threads),
        waits=rows,
        hot_objects=hot_objects,
        deadlocks=deadlocks,
        stalls=stalls_told,
        lock_order=lock_order,
        spans=spans_of(recordings, waits, threads, span_samples, start_ns),
        accounting=accounting,
        findings=findings(processes, threads, rows, hot_objects, accounting, meta["samples"]),
        not_observed=(
            *_not_observed(recordings),
            *not_watched(recordings),
            *undecoded,
            *outside.not_observed,
        ),
        cpu_stacks=cpu_stacks_of(recordings),
        wall_stacks=outside.stacks,
        timeline=timeline,
        overview=overview_of(timeline, len(threads)) if timeline else None,
    )


def _threads(recordings: Sequence[Recording], waits: Sequence[Any]) -> list[Thread]:
    threads: list[Thread] = []
    for recording in recordings:
        threads += threads_of(recording, [wait for wait in waits if wait.recording is recording])
    return threads


def _process(recording: Recording) -> Process:
    gil_used = any(thread["gil_holds"] > FEW_GIL_HOLDS for thread in recording.threads.values())
    return Process(
        pid=recording.header["pid"],
        parent_pid=recording.header["parent_pid"],
        python=recording.python_version + ("t" if recording.free_threaded else ""),
        free_threaded=recording.free_threaded,
        gil_enabled=gil_used if recording.free_threaded else True,
        argv=tuple(_text(part) for part in recording.metas.get("argv", b"").split(b"\0")),
        wall_s=(recording.end_ns - recording.header["start_ns"]) / 1e9,
        end=EndKind(recording.header["end_kind"]).name.lower() if recording.header["end_kind"] < 4 else "none",
        lost_records=recording.header["lost_records"],
        python_stacks=bool(recording.flags & HeaderFlag.PYTHON_STACKS),
    )


# Expected samples above which having less than a tenth of them is no chance.
FEW_SAMPLES = 20

# A free-threaded build takes its GIL a few times at start-up before it turns it off (16 on 3.13.5).
FEW_GIL_HOLDS = 100


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _meta(first: Recording, wall_s: float, threads: Sequence[Thread], samples: int) -> dict[str, Any]:
    from gilprobe import __version__

    return {
        "gilprobe": __version__,
        "recording": first.path.parent.name,
        "started": datetime.fromtimestamp(first.header["start_realtime_ns"] / 1e9, UTC).isoformat(
            timespec="milliseconds"
        ),
        "python": first.python_version + ("t" if first.free_threaded else ""),
        "executable": _text(first.metas.get("executable", b"")),
        "cwd": _text(first.metas.get("cwd", b"")),
        "wall_s": wall_s,
        "cpu_s": sum(thread.cpu_s for thread in threads),
        "rate_hz": first.header["rate_hz"],
        "samples": samples,
        "sampler": _sampler(first),
        "events": bool(first.flags & HeaderFlag.EVENTS),
    }


def _sampler(recording: Recording) -> str:
    if recording.flags & HeaderFlag.SAMPLED_PERF:
        return "perf task-clock"
    return "thread CPU timer" if recording.flags & HeaderFlag.SAMPLED_TIMER else "off"


def _not_observed(recordings: Sequence[Recording]) -> tuple[NotObserved, ...]:
    missing = [NotObserved(what, why) for what, why in NOT_BUILT]
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
    elif any(recording.free_threaded for recording in recordings):
        missing.append(NotObserved("loads of lines that another core had modified", NO_CACHE_EVENTS))
    else:
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
    merged = sum(span["count"] for span in recording.spans.values() if span.overflow)
    if merged:
        yield NotObserved(f"names of {merged} spans of {where}", "more different ones in a thread than it keeps")
    unread = sum(not thread["read_ns"] for thread in recording.threads.values())
    if unread:
        yield NotObserved(f"CPU and run delay of {unread} threads of {where}", "the kernel's figures were never read")


def _undecoded(sampled: Sequence[Recording]) -> Iterator[NotObserved]:
    from gilprobe.analysis.atomics import unreadable_code

    for recording in sampled:
        for path, count in unreadable_code(recording).items():
            what = f"hot objects in {count} of {len(recording.samples)} samples of process {recording.header['pid']}"
            yield NotObserved(what, f"the code of {path} cannot be read here")


def _cpu_s(thread: RecordedThread) -> float:
    return max(0, thread["cpu_ns"] - thread["start_cpu_ns"]) / 1e9


def _error(number: int) -> str:
    return os.strerror(number) if number < 4096 else f"error {number}"
