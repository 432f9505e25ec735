"""Collapsed stacks, the input of flamegraph.pl: `thread;outermost;...;innermost microseconds`, on and off CPU.

Where py-spy ran all are its own, with what the thread did as the innermost frame; else CPU samples and recorded waits.
"""

from __future__ import annotations

from collections.abc import Iterable

from gilprobe.model import Frame, Profile
from gilprobe.render.tables import leaf_of, state_leaf
from gilprobe.render.wording import place, plain


class Collapsed:
    suffix = ".collapsed"

    def render(self, profile: Profile) -> str:
        if profile.wall_stacks:
            return "".join(
                _line(profile.threads[seen.thread].name, reversed(seen.stack), state_leaf(seen).function, seen.seconds)
                for seen in profile.wall_stacks
            )
        lines = [
            _line(profile.threads[sampled.thread].name, reversed(sampled.stack), "[on CPU]", sampled.seconds)
            for sampled in profile.cpu_stacks
        ]
        for wait in profile.waits:
            leaf = leaf_of(wait).function
            lines += [_line(thread, reversed(wait.waiter), leaf, total_s) for thread, total_s in wait.threads.items()]
        return "".join(lines)


def _line(thread: str, stack: Iterable[Frame], leaf: str, total_s: float) -> str:
    names = (plain(thread), *(place(frame) for frame in stack), leaf)
    return f"{';'.join(name.replace(';', ':') for name in names)} {round(total_s * 1e6)}\n"
