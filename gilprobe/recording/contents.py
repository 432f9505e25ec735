"""What one process recorded, in arrays and plain objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gilprobe.recording import schema
from gilprobe.recording.cuda import CudaRecords
from gilprobe.recording.linetable import Position, position_at
from gilprobe.recording.schema import EndKind, HeaderFlag, RecordType


@dataclass(frozen=True, slots=True)
class Code:
    file: str
    qualname: str
    first_line: int
    linetable: bytes

    def position(self, offset: int) -> Position:
        return position_at(self.linetable, self.first_line, offset)


@dataclass(frozen=True, slots=True)
class Stack:
    """Innermost first. python: (code id, bytecode offset in bytes); native: return addresses."""

    python: tuple[tuple[int, int], ...]
    native: tuple[int, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Image:
    path: str
    bias: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class RecordedThread:
    """One THREAD record; all fields of schema.THREAD_RECORD by name in `fields`."""

    name: str
    fields: dict[str, int]

    def __getitem__(self, field_name: str) -> int:
        return self.fields[field_name]


@dataclass(frozen=True, slots=True)
class RecordedSpan:
    """One SPAN record; its fields of schema.SPAN_RECORD by name in `fields`."""

    name: str
    overflow: bool
    histogram: tuple[int, ...]
    fields: dict[str, int]

    def __getitem__(self, field_name: str) -> int:
        return self.fields[field_name]


@dataclass(slots=True)
class Recording:
    """One process."""

    path: Path
    header: dict[str, int]
    metas: dict[str, bytes] = field(default_factory=dict)
    images: list[Image] = field(default_factory=list)
    codes: dict[int, Code] = field(default_factory=dict)
    stacks: dict[int, Stack] = field(default_factory=dict)
    types: dict[int, str] = field(default_factory=dict)
    threads: dict[int, RecordedThread] = field(default_factory=dict)
    spans: dict[int, RecordedSpan] = field(default_factory=dict)
    waits: NDArray[Any] = field(default_factory=lambda: np.empty(0, schema.WAIT_RECORD))
    events: list[NDArray[Any]] = field(default_factory=list)
    span_events: list[NDArray[Any]] = field(default_factory=list)
    samples: NDArray[Any] = field(default_factory=lambda: np.empty(0, schema.SAMPLE_RECORD))
    watched: list[tuple[RecordType, int, str]] = field(default_factory=list)  # (what, monotonic ns, JSON)
    lock_holds: list[Any] = field(default_factory=list)  # schema.LOCK_HOLD_RECORD, one each
    freezes: list[dict[str, int]] = field(default_factory=list)
    stops: list[dict[str, int]] = field(default_factory=list)
    progress: list[dict[str, int]] = field(default_factory=list)
    cuda: CudaRecords = field(default_factory=CudaRecords)
    gil_holds: list[NDArray[Any]] = field(default_factory=list)
    long_holds: list[dict[str, int]] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)

    @property
    def flags(self) -> HeaderFlag:
        return HeaderFlag(self.header["flags"] & 0xFF)

    @property
    def python_version(self) -> str:
        version = self.header["python_hex"]
        return f"{version >> 24}.{version >> 16 & 255}.{version >> 8 & 255}" if version else "unknown"

    @property
    def free_threaded(self) -> bool:
        return bool(self.flags & HeaderFlag.FREE_THREADED)

    @property
    def end_ns(self) -> int:
        """The end of the process, or of what is known of it."""
        last = self.header["end_ns"]
        if self.header["end_kind"] != EndKind.NONE:
            return last
        seen = [last, *(max(t["end_ns"], t["read_ns"], t["open_start_ns"]) for t in self.threads.values())]
        if len(self.waits):
            seen.append(int(self.waits["last_ns"].max()))
        if len(self.samples):
            seen.append(int(self.samples["time_ns"].max()))
        return max(seen)

    def ticks_to_seconds(self, ticks: int) -> float:
        """Scales time-stamp-counter ticks by the header's two readings of both clocks."""
        if self.flags & HeaderFlag.TICKS_ARE_NS:
            return ticks / 1e9
        ticks_between = self.header["end_ticks"] - self.header["start_ticks"]
        return (
            ticks / ticks_between * (self.header["end_ns"] - self.header["start_ns"]) / 1e9
            if ticks_between > 0
            else 0.0
        )

    def ticks_to_ns(self, ticks: NDArray[np.uint64]) -> NDArray[np.int64]:
        """CLOCK_MONOTONIC nanoseconds of time-stamp-counter readings, between the header's two pairs."""
        if self.flags & HeaderFlag.TICKS_ARE_NS:
            return ticks.astype(np.int64)
        start, between = self.header["start_ticks"], self.header["end_ticks"] - self.header["start_ticks"]
        per_tick = (self.header["end_ns"] - self.header["start_ns"]) / between if between > 0 else 0.0
        return self.header["start_ns"] + ((ticks.astype(np.int64) - start) * per_tick).astype(np.int64)
