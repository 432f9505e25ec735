"""Commands that end in time, with all their processes, whatever becomes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

END_S = 4  # for a killed process's end to be seen: one that waits in the driver may not die at once


@contextmanager
def started(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """In a session of its own, all of which is killed at the end: workers left behind would disturb what comes next."""
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        yield child
    finally:
        kill_session(child.pid)
        for pipe in (child.stdout, child.stderr):
            if pipe:
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            child.wait(END_S)


def answer_of(command: Sequence[str], environment: Mapping[str, str], limit_s: float) -> dict[str, Any]:
    """The last line it prints, a JSON object; else {error}."""
    with started(command, environment) as child:
        return answer(child, limit_s)


def answer(child: subprocess.Popen[str], limit_s: float) -> dict[str, Any]:
    try:
        out, errors = child.communicate(timeout=max(0.1, limit_s))
    except subprocess.TimeoutExpired:
        return {"error": f"it was ended after {limit_s:.0f} s"}
    try:
        read = json.loads(out.splitlines()[-1])
    except (ValueError, IndexError):
        read = None
    if isinstance(read, dict):
        return read
    return {"error": f"it ended with status {child.returncode}: {errors.strip()[-300:]}"}


def kill_session(leader: int) -> None:
    """All processes of the session that `leader` began, also those that made a group of their own."""
    _kill_all(lambda process: _status(process)[1] == leader)


def kill_with(variable: str) -> None:
    """All processes that were started with NAME=value, this one excepted."""
    wanted = variable.encode()
    _kill_all(lambda process: wanted in (process / "environ").read_bytes().split(b"\0"))


def _kill_all(chosen: Callable[[Path], bool]) -> None:
    """Again until none is left: one that is killed may just have started another."""
    end = time.monotonic() + END_S
    while (left := list(_living(chosen))) and time.monotonic() < end:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _living(chosen: Callable[[Path], bool]) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            if int(process.name) != os.getpid() and _status(process)[0] not in "ZX" and chosen(process):
                yield int(process.name)


def _status(process: Path) -> tuple[str, int]:
    """State and session."""
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[3])
