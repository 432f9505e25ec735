"""Time that the machine's host took from threads while they ran: a hypervisor gave their core to another machine.

A thread's CPU clock stands still then, no run delay is counted and no hook sees it: it is a hole in the account. How
much the hypervisor took is known for the whole machine only (steal time, proc_stat(5)). The process's part is taken
to be its part of all CPU that was used meanwhile; it went to the threads that have holes, and is never more than these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gilprobe.model import Thread
from gilprobe.recording import Recording


def with_stolen(threads: Sequence[Thread], recording: Recording) -> list[Thread]:
    """threads: all of the recording's process."""
    holes_s = [hole_s(thread) for thread in threads]
    total_s = sum(holes_s)
    stolen_s = stolen_from_process_s(threads, recording)
    if stolen_s <= 0 or total_s <= 0:
        return list(threads)
    part = min(1.0, stolen_s / total_s)
    return [
        replace(thread, stolen_s=part * hole, unaccounted_s=(1 - part) * hole) if hole > 0 else thread
        for thread, hole in zip(threads, holes_s, strict=True)
    ]


def stolen_from_process_s(threads: Sequence[Thread], recording: Recording) -> float:
    """0 where the machine's figures were not read, as in a process that was killed."""
    header = recording.header
    busy_ns = header["busy_ns"] - header["start_busy_ns"]
    stolen_ns = header["stolen_ns"] - header["start_stolen_ns"]
    if not header["busy_ns"] or busy_ns <= 0 or stolen_ns <= 0:
        return 0.0
    return stolen_ns / 1e9 * min(1.0, sum(thread.cpu_s for thread in threads) / (busy_ns / 1e9))


def hole_s(thread: Thread) -> float:
    """What the kernel has as neither CPU nor run delay beyond what the hooks have, less what was stolen; 0 where they
    have more."""
    kernel_s = thread.wall_s - thread.cpu_s - thread.runnable_s
    hooked_s = sum(thread.wait_s.values()) + sum(thread.idle_s.values()) + thread.sleep_io_s
    return max(0.0, kernel_s - hooked_s - thread.stolen_s) if thread.unaccounted_s else 0.0
