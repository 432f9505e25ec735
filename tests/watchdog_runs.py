"""Runs a program under the watchdog until it ends, or until the watchdog has spoken."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pythons import Python

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment
from gilprobe.model import Profile

PROGRAMS = Path(__file__).parent / "integration" / "watchdog" / "programs"


@dataclass(frozen=True)
class Outcome:
    """status: None where it had to be killed. told_ns: when the watchdog first spoke, CLOCK_MONOTONIC; 0 = never."""

    status: int | None
    stdout: str
    stderr: str
    told_ns: int
    profile: Profile


def run(
    python: Python,
    program: str,
    *arguments: str,
    until: str = "",
    limit_s: float | None = 60.0,
    on_deadlock: str = "report",
    timeout_s: float = 30.0,
) -> Outcome:
    """until: kill it when its stderr holds these words."""
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile("w+b") as err, tempfile.TemporaryFile() as out:
        options = Options(rate_hz=0, watchdog_s=limit_s, on_deadlock=on_deadlock)
        process = subprocess.Popen(
            [python.executable, str(PROGRAMS / program), *arguments],
            env=environment(Path(name), options), stdout=out, stderr=err, start_new_session=True,
        )  # fmt: skip
        told_ns, end = 0, time.monotonic() + timeout_s
        status = None
        while time.monotonic() < end:
            text = os.pread(err.fileno(), 1 << 20, 0).decode()
            if not told_ns and until and until in text:
                told_ns = time.monotonic_ns()
            status = process.poll()
            if status is not None or told_ns:
                break
            time.sleep(0.01)
        if status is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        out.seek(0)
        err.seek(0)
        return Outcome(status, out.read().decode(), err.read().decode(), told_ns, load(name))


def marked(program: str, function: str) -> dict[str, dict[str, set[int]]]:
    """{thread: {"waits" or "holds": lines}} of the marks in one function of a program."""
    found: dict[str, dict[str, set[int]]] = {}
    inside = False
    for number, line in enumerate((PROGRAMS / program).read_text().splitlines(), 1):
        if line and not line[0].isspace():
            inside = line.startswith(f"def {function}(")
        _, mark, comment = line.partition("  # ")
        names, colon, word = comment.partition(": ")
        if inside and mark and colon and word in ("waits", "holds"):
            for name in names.split():
                found.setdefault(name, {}).setdefault(word, set()).add(number)
    return found
