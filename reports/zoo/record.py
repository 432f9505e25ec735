"""Runs a zoo program under the recorder and gives back what it said and what gilprobe says."""

from __future__ import annotations

import json
import subprocess
import sys
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
        """Whole waits of this kind: blocked, spinning and waking. Thread.start's for the new thread are not the
        script's, which has no stopwatch around them."""
        return sum(
            wait.total_s
            for wait in self.profile.waits
            if wait.kind == kind and not any(frame.function == "Thread.start" for frame in wait.waiter)
        )

    def stopwatch_s(self, kind: str) -> float:
        """What a stopwatch around the call has: on GIL builds a thread also takes the GIL back there, a wait apart."""
        sites = {wait.waiter for wait in self.profile.waits if wait.kind == kind and wait.waiter}
        return self.total_s(kind) + sum(
            wait.total_s for wait in self.profile.waits if wait.kind == "gil" and wait.waiter in sites
        )

    def sleep_io_s(self) -> float:
        return sum(thread.sleep_io_s for thread in self.profile.threads)

    def ready_share(self) -> float:
        """Share of the time they wanted to run in which the threads had no core."""
        ready_s = sum(thread.runnable_s for thread in self.profile.threads)
        return ready_s / (ready_s + sum(thread.cpu_s for thread in self.profile.threads))

    def contention_s(self, kind: str | None = None) -> float:
        """As the findings count it: without the time in which a thread that had been let go had no core."""
        waits = (wait for wait in self.profile.waits if not wait.idle and kind in (None, wait.kind))
        return sum(wait.contended_s for wait in waits)

    def thread_seconds(self) -> float:
        return sum(thread.wall_s for thread in self.profile.threads)


def record(python: str, program: str, *arguments: object, rate_hz: int = 0, events: bool = False) -> Recorded:
    """Raises CalledProcessError where the program fails."""
    output, profile = record_script(python, ZOO / program, *arguments, rate_hz=rate_hz, events=events)
    return Recorded(json.loads(output.splitlines()[-1]), profile)


def record_script(
    python: str, script: Path, *arguments: object, rate_hz: int = 0, events: bool = False
) -> tuple[str, Profile]:
    """Its output and its Profile. Raises CalledProcessError where the script fails."""
    with tempfile.TemporaryDirectory(prefix="gilprobe-zoo-") as folder:
        done = subprocess.run(
            [python, str(script), *map(str, arguments)],
            env=environment(Path(folder), Options(events=events, rate_hz=rate_hz)),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return done.stdout, load(folder)


def record_by_py_spy(python: str, program: str, *arguments: object) -> tuple[dict[str, Any], Profile]:
    """The program's own truth, and the Profile with py-spy beside it. Raises CalledProcessError where it fails."""
    with tempfile.TemporaryDirectory(prefix="gilprobe-zoo-") as folder:
        options = ["-q", "-o", f"{folder}/r", "--sampler", "py-spy", "--python", python]
        done = subprocess.run(
            [sys.executable, "-m", "gilprobe", "profile", *options, ZOO / program, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return json.loads(done.stdout.splitlines()[-1]), load(f"{folder}/r")
