"""A recording that still grows, as it stands: what each thread waits for now, and what was waited for so far."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from gilprobe.analysis.classify import classify
from gilprobe.analysis.contention import classified_waits, name_of
from gilprobe.analysis.frames import Stacks
from gilprobe.model import Frame, OpenWait, own_frame
from gilprobe.recording import RecordedThread, Recording, read_folder
from gilprobe.recording.schema import EndKind, WaitFlag


@dataclass(slots=True)
class LiveThread:
    """Totals in seconds since the thread began. blocked: by kind of wait, idling and sleep included."""

    name: str
    pid: int
    ended: bool
    cpu_s: float
    ready_s: float
    blocked: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    now: OpenWait | None = None


@dataclass(slots=True)
class LiveWait:
    kind: str
    name: str
    site: Frame | None
    count: int = 0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """threads: by (pid, number in the file); waits: contention only, by (kind, name, site)."""

    taken_ns: int
    running: int
    threads: dict[tuple[int, int], LiveThread]
    waits: dict[tuple[str, str, Frame | None], LiveWait]


def snapshot(path: Path) -> Snapshot:
    """Raises RecordingError where nothing has been written yet."""
    threads: dict[tuple[int, int], LiveThread] = {}
    waits: dict[tuple[str, str, Frame | None], LiveWait] = {}
    recordings = read_folder(path, salvage=True)
    now_ns = time.monotonic_ns()
    running = 0
    for recording in recordings:
        pid = recording.header["pid"]
        alive = _runs(recording)
        running += alive
        stacks = Stacks(recording)
        for number, recorded in recording.threads.items():
            threads[pid, number] = _thread(recording, stacks, recorded, alive, now_ns if alive else recording.end_ns)
        for wait in classified_waits(recording):
            thread = threads.get((pid, wait.thread))
            if thread:
                thread.blocked[wait.classified.kind] += wait.blocked_s
            if wait.classified.contention:
                site = own_frame(tuple(s.frame for s in wait.sites))
                key = str(wait.classified.kind), wait.name, site
                row = waits.setdefault(key, LiveWait(*key))
                row.count += wait.count
                row.total_s += wait.total_s
    return Snapshot(now_ns, running, threads, waits)


def _runs(recording: Recording) -> bool:
    return recording.header["end_kind"] == EndKind.NONE and Path(f"/proc/{recording.header['pid']}").exists()


def _thread(recording: Recording, stacks: Stacks, recorded: RecordedThread, alive: bool, now_ns: int) -> LiveThread:
    pid, ended = recording.header["pid"], bool(recorded["end_ns"]) or not alive
    cpu_ns, ready_ns = recorded["cpu_ns"], recorded["run_delay_ns"]
    if not ended:
        # The recorder reads the kernel's figures now and then only.
        cpu_ns, ready_ns = _schedstat(pid, recorded["tid"]) or (cpu_ns, ready_ns)
    thread = LiveThread(
        name=recorded.name or f"thread {recorded['tid']}",
        pid=pid,
        ended=ended,
        cpu_s=max(0, cpu_ns - recorded["start_cpu_ns"]) / 1e9,
        ready_s=max(0, ready_ns - recorded["start_run_delay_ns"]) / 1e9,
    )
    start_ns = recorded["open_start_ns"]
    if start_ns and not recorded["end_ns"]:
        sites = stacks.sites(recorded["open_stack_id"])
        object_type = recording.types.get(recorded["open_type_id"], "")
        classified = classify(
            recorded["open_op"],
            recorded["open_subject"],
            object_type,
            sites,
            free_threaded=recording.free_threaded,
            timed=bool(recorded["open_flags"] & WaitFlag.TIMED),
        )
        thread.now = OpenWait(
            kind=classified.kind,
            name=name_of(classified, object_type, sites, recorded["open_address"]),
            since_s=(start_ns - recording.header["start_ns"]) / 1e9,
            waited_s=max(0, now_ns - start_ns) / 1e9,
            stack=tuple(site.frame for site in sites),
        )
        thread.blocked[classified.kind] += thread.now.waited_s
    return thread


def _schedstat(pid: int, tid: int) -> tuple[int, int] | None:
    """CPU and run delay in ns."""
    try:
        fields = Path(f"/proc/{pid}/task/{tid}/schedstat").read_text().split()
        return int(fields[0]), int(fields[1])
    except (OSError, ValueError, IndexError):
        return None
