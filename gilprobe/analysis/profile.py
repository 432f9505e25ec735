"""From a recording on the disk to the Profile: each module of this package offers a part, here they meet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gilprobe.analysis.accounting import account, threads_of
from gilprobe.analysis.advice import findings
from gilprobe.analysis.allocator import allocator_findings
from gilprobe.analysis.by_span import by_span
from gilprobe.analysis.contention import ClassifiedWait, classified_waits, wait_rows
from gilprobe.analysis.counted import counted
from gilprobe.analysis.cpu_stacks import cpu_stacks_of
from gilprobe.analysis.cuda import cuda_findings, cuda_not_observed
from gilprobe.analysis.garbage import collections_of, not_collected, with_collecting, with_collections
from gilprobe.analysis.gil_holds import gil_holds_of, with_longest_hold
from gilprobe.analysis.gpu_lanes import gpu_lanes_of
from gilprobe.analysis.gpu_waits import gpu_of
from gilprobe.analysis.holds import holds_of
from gilprobe.analysis.hot import hot_of
from gilprobe.analysis.loader import loader_findings, loader_of, no_loader
from gilprobe.analysis.overview import overview_of
from gilprobe.analysis.permits import permit_findings
from gilprobe.analysis.proof import proof_of, with_proof
from gilprobe.analysis.py_spy import spied
from gilprobe.analysis.run import began_ns, meta_of, process_of
from gilprobe.analysis.spans import spans_of
from gilprobe.analysis.timeline import timeline_of
from gilprobe.analysis.unrecorded import not_recorded
from gilprobe.analysis.watched import not_watched, watched
from gilprobe.model import Profile, Proof, Thread
from gilprobe.recording import Recording, read_folder


def load(path: str | os.PathLike[str], *, salvage: bool = False) -> Profile:
    """The Profile of a recording folder. Raises RecordingError where it cannot be read (see read_folder)."""
    recordings = read_folder(Path(path), salvage=salvage)
    return profile_of(recordings, proof_of(Path(path), salvage=salvage))


def profile_of(recordings: Sequence[Recording], proof: Proof | None) -> Profile:
    # What every part is made of: single waits, their rows, and the threads with all their time.
    start_ns = began_ns(recordings)
    wall_s = (max(recording.end_ns for recording in recordings) - start_ns) / 1e9
    waits = [wait for recording in recordings for wait in classified_waits(recording)]
    holds, rows = holds_of(recordings, wait_rows(waits))
    hot = hot_of(recordings, _threads(recordings, waits, start_ns))
    threads = with_collections(hot.threads, recordings)

    # The parts.
    meta = meta_of(recordings, wall_s, threads)
    processes = tuple(process_of(recording) for recording in recordings)
    accounting = account(threads, wall_s)
    spans = spans_of(recordings, waits, threads, hot.span_samples, start_ns)
    loader = loader_of(spans, rows, hot.objects)
    told = watched(recordings)
    gpu = gpu_of(recordings, waits)
    hardware = counted(recordings)
    outside = spied(recordings, waits)
    gil_holds = gil_holds_of(recordings, start_ns)
    timeline = timeline_of(recordings, waits, rows, start_ns)

    # What they say, and what they could not see.
    causes = findings(
        processes, threads, rows, hot.objects, accounting,
        deadlocks=told.deadlocks, samples=meta["samples"], watched=meta["watchdog"],
        others=[*allocator_findings(recordings, threads), *permit_findings(waits, threads)],
    )  # fmt: skip
    causes = with_longest_hold(with_collecting(causes, threads, processes), gil_holds)
    not_observed = (
        *not_recorded(recordings),
        *no_loader(loader),
        *not_watched(recordings),
        *hot.not_observed,
        *hardware.not_observed,
        *outside.not_observed,
        *not_collected(recordings),
        *cuda_not_observed(gpu),
    )
    return Profile(
        meta=meta | outside.meta | hardware.meta,
        processes=processes,
        threads=tuple(threads),
        waits=rows,
        hot_objects=hot.objects,
        deadlocks=told.deadlocks,
        stalls=told.stalls,
        lock_order=told.lock_order,
        holds=holds,
        cuda=gpu,
        spans=spans,
        loader=loader,
        accounting=accounting,
        findings=(*loader_findings(loader), *with_proof(causes, proof), *cuda_findings(gpu)),
        proof=proof,
        not_observed=not_observed,
        cpu_stacks=cpu_stacks_of(recordings),
        wall_stacks=outside.stacks,
        timeline=timeline,
        overview=overview_of(timeline) if timeline else None,
        by_span=by_span(recordings, waits, spans, start_ns),
        gil_holds=gil_holds,
        collections=collections_of(recordings, start_ns),
        gpu_lanes=gpu_lanes_of(recordings, start_ns),
    )


def _threads(recordings: Sequence[Recording], waits: Sequence[ClassifiedWait], start_ns: int) -> list[Thread]:
    threads: list[Thread] = []
    for recording in recordings:
        threads += threads_of(recording, [wait for wait in waits if wait.recording is recording], start_ns)
    return threads
