"""Runs a zoo program under the recorder and gives back what it said and what gilprobe says."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment
from gilprobe.model import Profile

ZOO = Path(__file__).parent


@dataclass(frozen=True)
class Recorded:
    truth: dict[str, Any]
    profile: Profile

    def total_s(self, kind: str) -> float:
        """Whole waits of this kind: blocked, spinning and waking."""
        return sum(wait.total_s for wait in self.profile.waits if wait.kind == kind)

    def contention_s(self) -> float:
        return sum(wait.total_s for wait in self.profile.waits if not wait.idle)

    def thread_seconds(self) -> float:
        return sum(thread.wall_s for thread in self.profile.threads)


def record(python: str, program: str, *arguments: object, rate_hz: int = 0, events: bool = False) -> Recorded:
    """Raises CalledProcessError where the program fails."""
    with tempfile.TemporaryDirectory(prefix="gilprobe-zoo-") as folder:
        done = subprocess.run(
            [python, str(ZOO / program), *map(str, arguments)],
            env=environment(Path(folder), Options(events=events, rate_hz=rate_hz)),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return Recorded(json.loads(done.stdout.splitlines()[-1]), load(folder))
