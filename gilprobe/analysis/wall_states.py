"""Wall time by stack, split into states where single waits have no times: joined by the stack, not by the moment.

The recorder has all of a thread's blocked time by stack, and for how long it held the GIL in all; py-spy has the wall
time of the stacks. What is left of a stack's wall time ran: holding the GIL as often as the native sampler saw it hold
it there, scaled so that all of it is as long as the thread did hold it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from gilprobe.analysis.alike import alike
from gilprobe.analysis.contention import ClassifiedWait
from gilprobe.analysis.frames import Stacks
from gilprobe.model import Frame, SampledStack
from gilprobe.recording import Recording
from gilprobe.recording.schema import SampleFlag

# Two samplers name functions differently, and keep outer frames to different depths: lines of the inner ones tell.
INNER_FRAMES = 8
LEAST_SAMPLES = 5

Place = tuple[tuple[str, int], ...]
Stack = tuple[Frame, ...]


def place_of(stack: Sequence[Frame]) -> Place:
    return tuple((frame.file, frame.line) for frame in stack[:INNER_FRAMES])


def split_by_stack(
    recording: Recording, waits: Sequence[ClassifiedWait], walls: Mapping[int, Mapping[Stack, float]], first: int
) -> Iterator[SampledStack]:
    """walls: thread's number in the recording -> stack -> seconds it was seen. first: the model's first such thread."""
    blocked: dict[tuple[int, Place], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for wait in waits:
        entry = blocked[wait.thread, place_of([site.frame for site in wait.sites])]
        entry[0 if wait.classified.contention else 1] += wait.total_s - wait.spin_s
    holds = _Holds(recording)
    for index, (number, thread) in enumerate(sorted(recording.threads.items())):
        wall = walls.get(number, {})
        lived_s = max(1e-9, ((thread["end_ns"] or recording.end_ns) - thread["start_ns"]) / 1e9)
        seen = min(1.0, sum(wall.values()) / lived_s)
        parts: dict[Stack, tuple[float, float, float]] = {}
        for stack, seconds in wall.items():
            waiting_s, idle_s = (value * seen for value in blocked[number, place_of(stack)])
            waiting_s = min(seconds, waiting_s)
            idle_s = min(seconds - waiting_s, idle_s)
            parts[stack] = waiting_s, idle_s, seconds - waiting_s - idle_s
        held = _held(holds, number, parts, recording.ticks_to_seconds(thread["gil_held_ticks"]) * seen)
        for stack, (waiting_s, idle_s, rest_s) in parts.items():
            states = {"held": held[stack], "running": rest_s - held[stack], "waiting": waiting_s, "idle": idle_s}
            for state, seconds in states.items():
                if seconds > 0:
                    yield SampledStack(first + index, stack, 0, seconds, state)


class _Holds:
    """How often the native sampler saw a thread hold the GIL, by place and in all: (held, samples)."""

    def __init__(self, recording: Recording) -> None:
        stacks = Stacks(recording)
        self._at: dict[tuple[int, Place], list[int]] = defaultdict(lambda: [0, 0])
        for thread, stack_id, flags, count in alike(recording.samples):
            for place in (place_of(stacks.frames(stack_id)), ()):
                entry = self._at[thread, place]
                entry[0] += count if flags & SampleFlag.HELD else 0
                entry[1] += count

    def share(self, thread: int, place: Place) -> float:
        for where in (place, ()):
            held, samples = self._at.get((thread, where), (0, 0))
            if samples >= LEAST_SAMPLES:
                return held / samples
        return 1.0


def _held(
    holds: _Holds, thread: int, parts: Mapping[Stack, tuple[float, float, float]], held_s: float
) -> dict[Stack, float]:
    wanted = {stack: rest_s * holds.share(thread, place_of(stack)) for stack, (_, _, rest_s) in parts.items()}
    total_s = sum(wanted.values())
    scale = held_s / total_s if total_s > 0 else 0.0
    return {stack: min(parts[stack][2], seconds * scale) for stack, seconds in wanted.items()}
