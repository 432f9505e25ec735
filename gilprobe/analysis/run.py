"""What was run, and how it was recorded: the Profile's `meta` and `processes`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from gilprobe.model import Process, Thread
from gilprobe.recording import Recording
from gilprobe.recording.schema import EndKind, HeaderFlag

# A free-threaded build takes its GIL at start-up, before it turns it off, and while it imports an extension module
# (CPython Python/import.c, import_run_extension): both mostly in the main thread.
FEW_GIL_HOLDS = 5
GIL_SHARE = 0.5


def began_ns(recordings: Sequence[Recording]) -> int:
    """CLOCK_MONOTONIC; the time that every time of a Profile counts from."""
    return min(recording.header["start_ns"] for recording in recordings)


def process_of(recording: Recording) -> Process:
    return Process(
        pid=recording.header["pid"],
        parent_pid=recording.header["parent_pid"],
        python=recording.python_version + ("t" if recording.free_threaded else ""),
        free_threaded=recording.free_threaded,
        gil_enabled=_gil_was_on(recording) if recording.free_threaded else True,
        argv=tuple(_text(part) for part in recording.metas.get("argv", b"").split(b"\0")),
        wall_s=(recording.end_ns - recording.header["start_ns"]) / 1e9,
        end=EndKind(recording.header["end_kind"]).name.lower() if recording.header["end_kind"] < 5 else "none",
        lost_records=recording.header["lost_records"],
        python_stacks=bool(recording.flags & HeaderFlag.PYTHON_STACKS),
    )


def _gil_was_on(recording: Recording) -> bool:
    """In a free-threaded build: other threads than the main one took it, or the main one had it most of its time."""
    threads = list(recording.threads.values())
    if any(thread["gil_holds"] > FEW_GIL_HOLDS for thread in threads[1:]):
        return True
    cpu_s = (threads[0]["cpu_ns"] - threads[0]["start_cpu_ns"]) / 1e9 if threads else 0.0
    return bool(threads) and recording.ticks_to_seconds(threads[0]["gil_held_ticks"]) > GIL_SHARE * cpu_s > 0


def meta_of(recordings: Sequence[Recording], wall_s: float, threads: Sequence[Thread]) -> dict[str, Any]:
    from gilprobe import __version__

    first = recordings[0]
    return {
        "gilprobe": __version__,
        "recording": first.path.parent.name,
        "started": datetime.fromtimestamp(first.header["start_realtime_ns"] / 1e9, UTC).isoformat(
            timespec="milliseconds"
        ),
        "python": first.python_version + ("t" if first.free_threaded else ""),
        "executable": _text(first.metas.get("executable", b"")),
        "cwd": _text(first.metas.get("cwd", b"")),
        "wall_s": wall_s,
        "cpu_s": sum(thread.cpu_s for thread in threads),
        "rate_hz": first.header["rate_hz"],
        "samples": sum(len(recording.samples) for recording in recordings),
        "sampler": _sampler(first),
        "events": bool(first.flags & HeaderFlag.EVENTS),
        "watchdog": "watchdog" in first.metas,
    }


def _sampler(recording: Recording) -> str:
    if recording.flags & HeaderFlag.SAMPLED_PERF:
        return "perf task-clock"
    return "thread CPU timer" if recording.flags & HeaderFlag.SAMPLED_TIMER else "off"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
