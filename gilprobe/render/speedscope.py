"""Every second of a thread as a flame graph: Speedscope's JSON file format (jlfwong/speedscope, file-format-spec).

One profile a thread's name: its CPU samples, and its waits and idling with the kind as the innermost frame.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from gilprobe.model import Frame, Profile
from gilprobe.render.tables import MOST_TEXT, Numbers, leaf_of, state_leaf
from gilprobe.render.wording import plain


class Speedscope:
    suffix = ".speedscope.json"

    def render(self, profile: Profile) -> str:
        frames: Numbers[tuple[str, str, int]] = Numbers()
        per_thread: dict[str, tuple[list[list[int]], list[float]]] = {}
        for thread, stack, total_s in _stacks(profile):
            samples, weights = per_thread.setdefault(thread, ([], []))
            samples.append([frames[frame.function, frame.file, frame.line] for frame in stack])
            weights.append(total_s)
        return json.dumps(
            {
                "$schema": "https://www.speedscope.app/file-format-schema.json",
                "name": f"{plain(str(profile.meta.get('recording', '')), MOST_TEXT)}: on and off CPU",
                "exporter": f"gilprobe {profile.meta.get('gilprobe', '')}",
                "activeProfileIndex": 0,
                "shared": {"frames": [_frame(*frame) for frame in frames]},
                "profiles": [
                    {
                        "type": "sampled",
                        "name": plain(thread, MOST_TEXT),
                        "unit": "seconds",
                        "startValue": 0,
                        "endValue": sum(weights),
                        "samples": samples,
                        "weights": weights,
                    }
                    for thread, (samples, weights) in _busiest_first(per_thread)
                ]
                or [NOTHING],
            }
        )


# Its importer reads the first profile whatever there is.
NOTHING = {
    "type": "sampled",
    "name": "nothing was recorded",
    "unit": "seconds",
    "startValue": 0,
    "endValue": 0,
    "samples": [],
    "weights": [],
}


def _stacks(profile: Profile) -> Iterator[tuple[str, tuple[Frame, ...], float]]:
    """Thread's name, stack with the outermost frame first, seconds."""
    for seen in profile.wall_stacks:
        yield profile.threads[seen.thread].name, (*reversed(seen.stack), state_leaf(seen)), seen.seconds
    if profile.wall_stacks:
        return  # all of the threads' time, waits too, by one sampler
    for sampled in profile.cpu_stacks:
        yield profile.threads[sampled.thread].name, tuple(reversed(sampled.stack)), sampled.seconds
    for wait in profile.waits:
        stack = (*reversed(wait.waiter), leaf_of(wait))
        for thread, total_s in wait.threads.items():
            yield thread, stack, total_s


def _frame(function: str, file: str, line: int) -> dict[str, str | int]:
    named: dict[str, str | int] = {"name": plain(function, MOST_TEXT)}
    if file:
        named |= {"file": plain(file, MOST_TEXT), "line": line}
    return named


def _busiest_first(
    per_thread: dict[str, tuple[list[list[int]], list[float]]],
) -> list[tuple[str, tuple[list[list[int]], list[float]]]]:
    return sorted(per_thread.items(), key=lambda item: -sum(item[1][1]))
