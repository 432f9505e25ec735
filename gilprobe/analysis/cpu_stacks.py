"""SAMPLE records as Python stacks with the CPU seconds that fell on each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from gilprobe.analysis.alike import alike
from gilprobe.analysis.frames import Stacks
from gilprobe.analysis.numbering import places_of
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
    for at, (recording, places) in enumerate(zip(recordings, places_of(recordings), strict=True)):
        built += _of_process(recording, places, spans[at] if spans else None)
    return tuple(sorted(built, key=lambda stack: -stack.seconds))


def _of_process(recording: Recording, places: dict[int, int], spans: frozenset[int] | None) -> list[SampledStack]:
    samples = recording.samples
    of_thread = dict(zip(*(part.tolist() for part in np.unique(samples["thread"], return_counts=True)), strict=True))
    if spans is not None:
        samples = samples[np.isin(samples["span_id"], list(spans))]
    if not len(samples):
        return []
    stacks = Stacks(recording)
    of_stack: dict[tuple[int, tuple[Frame, ...], str], int] = defaultdict(int)
    for thread, stack_id, flags, count in alike(samples):
        frames = stacks.frames(stack_id)
        seen = (COLLECTING, *frames) if flags & SampleFlag.COLLECTING else frames
        of_stack[thread, seen, "held" if flags & SampleFlag.HELD else "running"] += count
    built = []
    for (thread, frames, state), count in of_stack.items():
        recorded = recording.threads.get(thread)
        if recorded is None:
            continue
        cpu_s = max(0, recorded["cpu_ns"] - recorded["start_cpu_ns"]) / 1e9
        seconds = cpu_s * count / of_thread[thread]
        built.append(SampledStack(places[thread], frames, count, seconds, state))
    return built
