"""The Profile: what analysis makes of a recording and every renderer shows.

All times are seconds, all shares 0-1. `to_dict` gives the JSON report, whose keys are a contract (see the README).
"""

from gilprobe.model.causes import (
    Accounting,
    Finding,
    FrozenObject,
    HotObject,
    Loss,
    NotObserved,
    Proof,
    ProofRun,
    Waterfall,
    WaterfallStep,
)
from gilprobe.model.moments import Collections, GpuLane, Overview, SampledStack, SpanPart, SpanWindows, Timeline
from gilprobe.model.profile import SCHEMA_VERSION, Profile
from gilprobe.model.threads import Process, Span, Thread
from gilprobe.model.waits import GilHold, Hold, Holder, NativeFunction, OpenWait, Releaser, Wait
from gilprobe.model.words import LIBRARY_PARTS, SLEEP_IO, Evidence, Frame, IdleKind, WaitKind, own_frame

__all__ = [
    "LIBRARY_PARTS",
    "SCHEMA_VERSION",
    "SLEEP_IO",
    "Accounting",
    "Collections",
    "Evidence",
    "Finding",
    "Frame",
    "FrozenObject",
    "GilHold",
    "GpuLane",
    "Hold",
    "Holder",
    "HotObject",
    "IdleKind",
    "Loss",
    "NativeFunction",
    "NotObserved",
    "OpenWait",
    "Overview",
    "Process",
    "Profile",
    "Proof",
    "ProofRun",
    "Releaser",
    "SampledStack",
    "Span",
    "SpanPart",
    "SpanWindows",
    "Thread",
    "Timeline",
    "Wait",
    "WaitKind",
    "Waterfall",
    "WaterfallStep",
    "own_frame",
]
