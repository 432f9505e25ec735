"""SAMPLE records as Python stacks with the CPU seconds that fell on each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from gilprobe.analysis.frames import Stacks
from gilprobe.model import Frame, SampledStack
from gilprobe.recording import Recording
from gilprobe.recording.schema import SampleFlag


def cpu_stacks_of(recordings: Sequence[Recording]) -> tuple[SampledStack, ...]:
    """By falling seconds. A thread's measured CPU is shared out among its samples: the sum is exact, only the split is
    estimated. Samples of threads that have no record are left out.
    """
    built: list[SampledStack] = []
    first = 0
    for recording in recordings:
        numbers = {number: first + at for at, number in enumerate(sorted(recording.threads))}
        built += _of_process(recording, numbers)
        first += len(recording.threads)
    return tuple(sorted(built, key=lambda stack: -stack.seconds))


def _of_process(recording: Recording, numbers: dict[int, int]) -> list[SampledStack]:
    samples = recording.samples
    if not len(samples):
        return []
    held = (samples["flags"] & SampleFlag.HELD).astype(np.uint64)
    keys, counts = np.unique(
        held << np.uint64(63) | samples["thread"].astype(np.uint64) << np.uint64(32) | samples["stack_id"],
        return_counts=True,
    )
    stacks = Stacks(recording)
    of_thread: dict[int, int] = defaultdict(int)
    of_stack: dict[tuple[int, tuple[Frame, ...], str], int] = defaultdict(int)
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        thread = key >> 32 & 0x7FFFFFFF
        of_thread[thread] += count
        of_stack[thread, stacks.frames(key & 0xFFFFFFFF), "held" if key >> 63 else "running"] += count
    built = []
    for (thread, frames, state), count in of_stack.items():
        recorded = recording.threads.get(thread)
        if recorded is None:
            continue
        cpu_s = max(0, recorded["cpu_ns"] - recorded["start_cpu_ns"]) / 1e9
        seconds = cpu_s * count / of_thread[thread]
        built.append(SampledStack(numbers[thread], frames, count, seconds, state))
    return built
