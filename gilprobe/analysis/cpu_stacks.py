"""SAMPLE records as Python stacks with the CPU seconds that fell on each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from gilprobe.analysis.frames import Stacks
from gilprobe.model import Frame, SampledStack
from gilprobe.recording import Recording
from gilprobe.recording.schema import SampleFlag

COLLECTING = Frame("[garbage collection]", "", 0)


def cpu_stacks_of(
    recordings: Sequence[Recording], spans: Sequence[frozenset[int]] | None = None
) -> tuple[SampledStack, ...]:
    """By falling seconds. A thread's measured CPU is shared out among its samples: the sum is exact, only the split is
    estimated. Samples of threads that have no record are left out.

    spans: of each recording, the ids of the spans whose samples are wanted; None for all.
    """
    built: list[SampledStack] = []
    first = 0
    for at, recording in enumerate(recordings):
        numbers = {number: first + place for place, number in enumerate(sorted(recording.threads))}
        built += _of_process(recording, numbers, spans[at] if spans else None)
        first += len(recording.threads)
    return tuple(sorted(built, key=lambda stack: -stack.seconds))


def _of_process(recording: Recording, numbers: dict[int, int], spans: frozenset[int] | None) -> list[SampledStack]:
    samples = recording.samples
    of_thread = dict(zip(*(part.tolist() for part in np.unique(samples["thread"], return_counts=True)), strict=True))
    if spans is not None:
        samples = samples[np.isin(samples["span_id"], list(spans))]
    if not len(samples):
        return []
    held = (samples["flags"] & SampleFlag.HELD != 0).astype(np.uint64) << np.uint64(63)
    collecting = (samples["flags"] & SampleFlag.COLLECTING != 0).astype(np.uint64) << np.uint64(62)
    keys, counts = np.unique(
        held | collecting | samples["thread"].astype(np.uint64) << np.uint64(32) | samples["stack_id"],
        return_counts=True,
    )
    stacks = Stacks(recording)
    of_stack: dict[tuple[int, tuple[Frame, ...], str], int] = defaultdict(int)
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        thread = key >> 32 & 0x3FFFFFFF
        frames = stacks.frames(key & 0xFFFFFFFF)
        seen = (COLLECTING, *frames) if key >> 62 & 1 else frames
        of_stack[thread, seen, "held" if key >> 63 else "running"] += count
    built = []
    for (thread, frames, state), count in of_stack.items():
        recorded = recording.threads.get(thread)
        if recorded is None:
            continue
        cpu_s = max(0, recorded["cpu_ns"] - recorded["start_cpu_ns"]) / 1e9
        seconds = cpu_s * count / of_thread[thread]
        built.append(SampledStack(numbers[thread], frames, count, seconds, state))
    return built
