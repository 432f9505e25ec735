"""Where each thread's seconds went, from two independent sources.

The kernel's: wall = CPU + run delay (schedstat) + what the host stole (stolen.py) + blocked. The hooks': every
blocking interval, less the CPU used in it and the delay after the releaser's post. Their difference is
`unaccounted_s`; no class is a remainder.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from gilprobe.analysis.classify import classify
from gilprobe.analysis.contention import ClassifiedWait, name_of
from gilprobe.analysis.frames import Stacks
from gilprobe.analysis.stolen import with_stolen
from gilprobe.model import SLEEP_IO, Accounting, Evidence, Loss, OpenWait, Thread
from gilprobe.recording import RecordedThread, Recording
from gilprobe.recording.schema import WaitFlag

ESTIMATED = frozenset({"atomic-stall", "stolen"})


def threads_of(recording: Recording, waits: Sequence[ClassifiedWait], origin_ns: int) -> list[Thread]:
    """origin_ns: when the first process began; all processes' threads start relative to it."""
    by_thread: dict[int, list[ClassifiedWait]] = defaultdict(list)
    for wait in waits:
        by_thread[wait.thread].append(wait)
    stacks = Stacks(recording)
    threads = [
        _thread(recording, stacks, thread, by_thread[number], origin_ns)
        for number, thread in sorted(recording.threads.items())
    ]
    return with_stolen(threads, recording)


def _thread(
    recording: Recording, stacks: Stacks, thread: RecordedThread, waits: list[ClassifiedWait], origin_ns: int
) -> Thread:
    end_ns = thread["end_ns"] or recording.end_ns
    wall_s = max(0, end_ns - thread["start_ns"]) / 1e9
    cpu_s = max(0, thread["cpu_ns"] - thread["start_cpu_ns"]) / 1e9
    runnable_s = max(0, thread["run_delay_ns"] - thread["start_run_delay_ns"]) / 1e9
    wait_s: dict[str, float] = defaultdict(float)
    idle_s: dict[str, float] = defaultdict(float)
    sleep_io_s = -thread["io_cpu_ns"] / 1e9
    for wait in waits:
        if wait.classified.contention:
            wait_s[wait.classified.kind] += wait.blocked_s
        elif wait.classified.idle:
            idle_s[wait.classified.kind] += wait.blocked_s
        else:
            sleep_io_s += wait.blocked_s
    open_wait = _open_wait(recording, stacks, thread, end_ns, origin_ns)
    if open_wait:
        if open_wait.kind == SLEEP_IO:
            sleep_io_s += open_wait.waited_s
        elif open_wait.kind in ("join", "condition", "queue"):
            idle_s[open_wait.kind] += open_wait.waited_s
        else:
            wait_s[open_wait.kind] += open_wait.waited_s
    sleep_io_s = max(0.0, sleep_io_s)
    hooked_s = sum(wait_s.values()) + sum(idle_s.values()) + sleep_io_s
    kernel_s = max(0.0, wall_s - cpu_s - runnable_s)
    held_ticks = thread["gil_held_ticks"]
    held_s = recording.ticks_to_seconds(held_ticks)
    if thread["gil_since_ticks"]:
        held_s += max(0.0, recording.ticks_to_seconds(recording.header["end_ticks"] - thread["gil_since_ticks"]))
    return Thread(
        name=thread.name or f"thread {thread['tid']}",
        tid=thread["tid"],
        pid=recording.header["pid"],
        wall_s=wall_s,
        cpu_s=cpu_s,
        runnable_s=runnable_s,
        wait_s=dict(wait_s),
        idle_s=dict(idle_s),
        sleep_io_s=sleep_io_s,
        gil_held_s=held_s,
        unaccounted_s=abs(kernel_s - hooked_s) if thread["read_ns"] else 0.0,
        spin_s=sum(wait.spin_s for wait in waits),
        wake_delay_s=sum(wait.wake_s for wait in waits),
        start_s=(thread["start_ns"] - origin_ns) / 1e9,
        ended=bool(thread["end_ns"]),
        minor_faults=thread["minor_faults"],
        major_faults=thread["major_faults"],
        voluntary_switches=thread["voluntary_switches"],
        involuntary_switches=thread["involuntary_switches"],
        open_wait=open_wait,
    )


def _open_wait(
    recording: Recording, stacks: Stacks, thread: RecordedThread, end_ns: int, origin_ns: int
) -> OpenWait | None:
    start_ns = thread["open_start_ns"]
    if not start_ns or thread["end_ns"]:
        return None
    sites = stacks.sites(thread["open_stack_id"])
    object_type = recording.types.get(thread["open_type_id"], "")
    classified = classify(
        thread["open_op"],
        thread["open_subject"],
        object_type,
        sites,
        free_threaded=recording.free_threaded,
        timed=bool(thread["open_flags"] & WaitFlag.TIMED),
    )
    return OpenWait(
        kind=classified.kind,
        name=name_of(classified, object_type, sites, thread["open_address"]),
        since_s=(start_ns - origin_ns) / 1e9,
        waited_s=max(0, end_ns - start_ns) / 1e9,
        stack=tuple(site.frame for site in sites),
    )


def account(threads: Sequence[Thread], wall_s: float) -> Accounting:
    """ideal: threads that wanted to run, on average over the run; actual: threads that did useful work.

    A loss's share is of all threads' wall seconds less what they idled or slept.
    """
    wanted_s = sum(t.wanted_s for t in threads)
    seconds: dict[str, float] = defaultdict(float)
    for thread in threads:
        for kind, value in thread.wait_s.items():
            seconds[kind] += value
        seconds["spin"] += thread.spin_s
        seconds["atomic-stall"] += thread.atomic_stall_s
        seconds["runnable"] += thread.runnable_s
        seconds["stolen"] += thread.stolen_s
        seconds["unaccounted"] += thread.unaccounted_s
    lost_cpu_s = seconds["spin"] + seconds["atomic-stall"]
    useful_s = max(0.0, sum(t.cpu_s for t in threads) - lost_cpu_s)
    losses = [
        Loss(name, value, value / wanted_s, Evidence.ESTIMATED if name in ESTIMATED else Evidence.MEASURED)
        for name, value in seconds.items()
        if value > 0 and wanted_s > 0
    ]
    return Accounting(
        ideal=wanted_s / wall_s if wall_s > 0 else 0.0,
        actual=useful_s / wall_s if wall_s > 0 else 0.0,
        losses=tuple(sorted(losses, key=lambda loss: -loss.seconds)),
    )
