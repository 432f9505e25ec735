"""Time off CPU as a flame graph: Speedscope's JSON file format (jlfwong/speedscope, file-format-spec)."""

from __future__ import annotations

import json

from gilprobe.model import Frame, Profile


class Speedscope:
    suffix = ".speedscope.json"

    def render(self, profile: Profile) -> str:
        frames: dict[tuple[str, str, int], int] = {}
        per_thread: dict[str, tuple[list[list[int]], list[float]]] = {}
        for wait in profile.waits:
            leaf = Frame(f"[{'idle' if wait.idle else 'wait'}: {wait.kind}]", "", 0)
            stack = [_number(frames, frame) for frame in (*reversed(wait.waiter), leaf)]
            for thread, total_s in wait.threads.items():
                samples, weights = per_thread.setdefault(thread, ([], []))
                samples.append(stack)
                weights.append(total_s)
        return json.dumps(
            {
                "$schema": "https://www.speedscope.app/file-format-schema.json",
                "name": f"{profile.meta.get('recording', '')}: time off CPU",
                "exporter": f"gilprobe {profile.meta.get('gilprobe', '')}",
                "shared": {"frames": [{"name": name, "file": file, "line": line} for name, file, line in frames]},
                "profiles": [
                    {
                        "type": "sampled",
                        "name": thread,
                        "unit": "seconds",
                        "startValue": 0,
                        "endValue": sum(weights),
                        "samples": samples,
                        "weights": weights,
                    }
                    for thread, (samples, weights) in per_thread.items()
                ],
            }
        )


def _number(frames: dict[tuple[str, str, int], int], frame: Frame) -> int:
    return frames.setdefault((frame.function, frame.file, frame.line), len(frames))
