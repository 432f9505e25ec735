"""The objects that threads fight over, where the recording and what is installed here can tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from gilprobe.model import HotObject, NotObserved, Thread
from gilprobe.recording import Recording

UNDECODED = "without it samples cannot be decoded, and CPU lost to shared cache lines counts as useful"


@dataclass(frozen=True, slots=True)
class Hot:
    """threads: now with their atomic stall. span_samples: (pid, span id) -> CPU samples on shared lines, and all."""

    threads: list[Thread]
    objects: tuple[HotObject, ...] = ()
    span_samples: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    not_observed: tuple[NotObserved, ...] = ()


def hot_of(recordings: Sequence[Recording], threads: list[Thread]) -> Hot:
    sampled = [recording for recording in recordings if len(recording.samples)]
    if not any(recording.free_threaded for recording in sampled):
        return Hot(threads)
    from gilprobe.analysis.atomics import hot_objects_of, with_stalls

    try:
        objects, stalls, span_samples = hot_objects_of(sampled)
        return Hot(with_stalls(threads, stalls), objects, span_samples, tuple(_undecoded(sampled)))
    except ImportError as error:
        return Hot(
            threads, not_observed=(NotObserved("hot_objects", f"{error.name or error} is not installed: {UNDECODED}"),)
        )


def _undecoded(sampled: Sequence[Recording]) -> Iterator[NotObserved]:
    from gilprobe.analysis.atomics import unreadable_code

    for recording in sampled:
        for path, count in unreadable_code(recording).items():
            what = f"hot objects in {count} of {len(recording.samples)} samples of process {recording.header['pid']}"
            yield NotObserved(what, f"the code of {path} cannot be read here")
