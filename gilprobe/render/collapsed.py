"""Time off CPU as collapsed stacks: `thread;outermost;...;innermost microseconds`, the input of flamegraph.pl."""

from __future__ import annotations

from gilprobe.model import Profile
from gilprobe.render.wording import place, plain


class Collapsed:
    suffix = ".collapsed"

    def render(self, profile: Profile) -> str:
        lines = []
        for wait in profile.waits:
            stack = [place(frame) for frame in reversed(wait.waiter)]
            leaf = f"[{'idle' if wait.idle else 'wait'}: {wait.kind}]"
            for thread, total_s in wait.threads.items():
                names = (plain(thread), *stack, leaf)
                lines.append(f"{';'.join(name.replace(';', ':') for name in names)} {round(total_s * 1e6)}\n")
        return "".join(lines)
