"""Hardware's own count of loads that hit a line another core had modified: a second evidence for hot objects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gilprobe.model import NotObserved
from gilprobe.recording import Recording
from gilprobe.recording.schema import CounterFlag

WHAT = "loads of lines that another core had modified"
ALONE = "hot objects rest on sampled registers alone"
RAW, MODIFIED_ELSEWHERE = 4, 0x04D2  # native/counter.c


@dataclass(frozen=True, slots=True)
class Counted:
    """meta: `counted` {event, total, seconds (of CPU it counted in)}; empty where nothing was counted."""

    meta: dict[str, Any]
    not_observed: tuple[NotObserved, ...] = ()


def counted(recordings: Sequence[Recording]) -> Counted:
    first = next((recording for recording in recordings if recording.header["counter_flags"]), None)
    if first is None:
        return Counted({})
    header = first.header
    if header["counter_errno"]:
        refused = f"the kernel gives no hardware counter here (perf_event_open: {os.strerror(header['counter_errno'])})"
        return Counted({}, (NotObserved(WHAT, f"{refused}: {ALONE}"),))
    if header["counter_flags"] & CounterFlag.UNKNOWN:
        return Counted({}, (NotObserved(WHAT, f"gilprobe knows no event of this processor for it: {ALONE}"),))
    total = seconds = 0.0
    for recording in recordings:
        for thread in recording.threads.values():
            running_ns = thread["counted_running_ns"]
            # The kernel shares counters out where there are more events than it has: what it missed is scaled up.
            total += thread["counted"] * thread["counted_enabled_ns"] / running_ns if running_ns else 0.0
            seconds += thread["counted_enabled_ns"] / 1e9 if running_ns else 0.0
    if not seconds:
        return Counted({}, (NotObserved(WHAT, f"no thread's counter ran: {ALONE}"),))
    own = (header["counter_type"], header["counter_config"]) == (RAW, MODIFIED_ELSEWHERE)
    event = WHAT if own else f"event {header['counter_type']}:{header['counter_config']}"
    return Counted({"counted": {"event": event, "total": total, "seconds": seconds}})
