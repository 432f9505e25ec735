"""Recordings as they lie on the disk, one file a process, read into arrays."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gilprobe.errors import RecordingError
from gilprobe.recording import schema
from gilprobe.recording.cuda import CUDA_RECORDS, CudaRecords
from gilprobe.recording.linetable import Position, position_at
from gilprobe.recording.schema import ChunkKind, EndKind, HeaderFlag, RecordType

SUFFIX = ".gpr"
PAGE = 4096
PAGES_AT_ONCE = 4096
SPAN_FIELDS = tuple(name for name in schema.SPAN_RECORD.names or () if name != "histogram")
RECORD_AGAIN = "Record it again with gilprobe profile."


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
    freezes: list[dict[str, int]] = field(default_factory=list)
    stops: list[dict[str, int]] = field(default_factory=list)
    progress: list[dict[str, int]] = field(default_factory=list)
    cuda: CudaRecords = field(default_factory=CudaRecords)
    gil_holds: list[NDArray[Any]] = field(default_factory=list)
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


def read_folder(path: Path, *, salvage: bool = False) -> list[Recording]:
    """All processes of a recording, the first to start first. `path` is its folder, or one process's file.

    Raises RecordingError where there is none, or where one is damaged and `salvage` is false.
    """
    if not path.exists():
        raise RecordingError(f"{path} does not exist", RECORD_AGAIN)
    files = sorted(path.glob("*" + SUFFIX)) if path.is_dir() else [path]
    if not files:
        raise RecordingError(f"{path} holds no recording", "Give the folder that gilprobe profile wrote.")
    recordings: list[Recording] = []
    refused: list[RecordingError] = []
    for file in files:
        try:
            recordings.append(read_file(file, salvage=salvage))
        except RecordingError as error:
            if not (salvage or _never_began(file)):
                raise
            refused.append(error)
    if not recordings:
        raise refused[0]
    recordings.sort(key=lambda recording: recording.header["start_ns"])
    recordings[0].damage += [error.message for error in refused]
    return recordings


def _never_began(path: Path) -> bool:
    """A process that was killed while it made its file leaves no byte, or a header of zeros."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as file:
            return not any(file.read(schema.HEADER_BYTES))
    except OSError:
        return False


def read_file(path: Path, *, salvage: bool = False) -> Recording:
    """One process. Raises RecordingError as read_folder does."""
    if not path.is_file():
        raise RecordingError(f"{path} is not a file", "Give the folder that gilprobe profile wrote.")
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                raise RecordingError(f"{path} is empty", RECORD_AGAIN)
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}", "Check its permissions.") from error
    recording = Recording(path, _read_header(path, data))
    _read_extents(recording, data)
    if recording.damage and not salvage:
        whole = len(recording.threads)
        raise RecordingError(
            f"{path.name} is damaged: {recording.damage[0]}",
            f"{whole} thread{'s' if whole != 1 else ''} can be read. Add --salvage to report on what is there.",
        )
    return recording


def _read_header(path: Path, data: mmap.mmap) -> dict[str, int]:
    if data[: len(schema.MAGIC)] != schema.MAGIC:
        raise RecordingError(f"{path} is not a gilprobe recording", "Give the folder that gilprobe profile wrote.")
    if len(data) < schema.HEADER_BYTES:
        raise RecordingError(f"{path} ends within its header", RECORD_AGAIN)
    fields = _fields(np.frombuffer(data, schema.FILE_HEADER, count=1)[0])
    if fields["format_version"] != schema.FORMAT_VERSION:
        raise RecordingError(
            f"{path} has format {fields['format_version']}, this gilprobe reads format {schema.FORMAT_VERSION}",
            "Use the gilprobe that recorded it, or record it again.",
        )
    if fields["header_bytes"] != schema.HEADER_BYTES or fields["end_ns"] < fields["start_ns"]:
        raise RecordingError(f"{path} has a damaged header", RECORD_AGAIN)
    return fields


def _fields(record: Any) -> dict[str, int]:
    return {name: int(record[name]) for name in record.dtype.names if record.dtype[name].kind == "u"}


def _extents(recording: Recording, data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """(start, bytes) of every extent; damage is noted and skipped."""
    at: int | None = schema.HEADER_BYTES
    while at is not None and at + schema.EXTENT_HEADER.itemsize <= len(data):
        extent = np.frombuffer(data, schema.EXTENT_HEADER, count=1, offset=at)[0]
        magic, size = int(extent["magic"]), int(extent["bytes"])
        if magic != schema.EXTENT_MAGIC or size < schema.EXTENT_HEADER.itemsize or size % PAGE:
            if magic:  # else reserved and never claimed, or a hole from when the disk was full
                recording.damage.append(f"no extent where one should start (byte {at})")
            at = _next_extent(data, at + PAGE)
            continue
        if at + size > len(data):
            recording.damage.append(f"it ends in the middle of an extent (byte {len(data)})")
        yield at, size
        at += size


def _next_extent(data: mmap.mmap, at: int) -> int | None:
    """The first page from `at` on that starts like an extent."""
    while at + PAGE <= len(data):
        pages = min(PAGES_AT_ONCE, (len(data) - at) // PAGE)
        first_words = np.frombuffer(data, "<u4", count=pages * (PAGE // 4), offset=at)[:: PAGE // 4]
        found = np.flatnonzero(first_words == schema.EXTENT_MAGIC)
        if len(found):
            return at + int(found[0]) * PAGE
        at += pages * PAGE
    return None


def _chunks(recording: Recording, data: mmap.mmap) -> Iterator[tuple[int, int, int]]:
    """(kind, payload's start, payload's length) of every chunk; damage is noted and skipped."""
    head = schema.CHUNK_HEADER.itemsize
    for start, size in _extents(recording, data):
        at: int | None = start + schema.EXTENT_HEADER.itemsize
        end = min(start + size, len(data))
        while at is not None and at + head <= end:
            chunk = np.frombuffer(data, schema.CHUNK_HEADER, count=1, offset=at)[0]
            chunk_bytes, length = int(chunk["bytes"]), int(chunk["length"])
            if int(chunk["magic"]) != schema.CHUNK_MAGIC:
                at = _next_chunk(recording, data, at, end)
            elif chunk_bytes < head or length > chunk_bytes - head or at + chunk_bytes > start + size:
                recording.damage.append(f"a chunk of impossible size (byte {at})")
                break
            elif at + head + length > len(data):
                recording.damage.append(f"it ends in the middle of a chunk (byte {len(data)})")
                break
            else:
                yield int(chunk["kind"]), at + head, length
                at += chunk_bytes


def _next_chunk(recording: Recording, data: mmap.mmap, at: int, end: int) -> int | None:
    """A header without its magic is a chunk that its thread had no time to claim, so zeros up to the next chunk."""
    words = np.frombuffer(data, "<u4", count=(end - at) // 4, offset=at)
    if not words[0]:
        head_words = schema.CHUNK_HEADER.itemsize // 4
        used = np.flatnonzero(words[head_words:])
        if not len(used):
            return None
        at += 4 * (head_words + int(used[0]))
        if int.from_bytes(data[at : at + 4], "little") == schema.CHUNK_MAGIC:
            return at
    recording.damage.append(f"no chunk where one should start (byte {at})")
    return None


def _read_extents(recording: Recording, data: mmap.mmap) -> None:
    waits: list[NDArray[Any]] = []
    samples: list[NDArray[Any]] = []
    for kind, start, length in _chunks(recording, data):
        if kind == ChunkKind.RECORDS:
            _read_records(recording, data, start, length, waits)
        elif kind == ChunkKind.EVENTS:
            recording.events.append(_array(data, schema.EVENT_RECORD, start, length))
        elif kind == ChunkKind.SAMPLES:
            samples.append(_array(data, schema.SAMPLE_RECORD, start, length))
        elif kind == ChunkKind.SPANS:
            recording.span_events.append(_array(data, schema.SPAN_EVENT_RECORD, start, length))
        elif kind == ChunkKind.GPU_WORK:
            recording.cuda.work.append(_array(data, schema.GPU_WORK, start, length))
        elif kind == ChunkKind.GPU_MARKS:
            recording.cuda.marks.append(_array(data, schema.GPU_MARK, start, length))
        elif kind == ChunkKind.HOLDS:
            recording.gil_holds.append(_array(data, schema.GIL_HOLD_RECORD, start, length))
        else:
            recording.damage.append(f"a chunk of unknown kind {kind}")
    if waits:
        recording.waits = np.concatenate(waits)
    if samples:
        recording.samples = np.concatenate(samples)


def _array(data: mmap.mmap, dtype: np.dtype[Any], start: int, length: int) -> NDArray[Any]:
    return np.frombuffer(data, dtype, count=length // dtype.itemsize, offset=start)


def _read_records(recording: Recording, data: mmap.mmap, start: int, length: int, waits: list[NDArray[Any]]) -> None:
    at, end = start, start + length
    while at + 8 <= end:
        kind = int.from_bytes(data[at : at + 2], "little")
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        dtype = _RECORDS.get(kind)
        if dtype is None or size < dtype.itemsize or size % 8 or at + size > end:
            recording.damage.append(f"a record of impossible kind or size (byte {at})")
            return
        if kind == RecordType.WAIT:
            waits.append(np.frombuffer(data, dtype, count=1, offset=at))
        else:
            record = np.frombuffer(data, dtype, count=1, offset=at)[0]
            try:
                _add(recording, kind, record, data[at + dtype.itemsize : at + size])
            except ValueError as error:
                recording.damage.append(f"{error} (byte {at})")
        at += size


WATCH_RECORDS = frozenset(
    {
        RecordType.DEADLOCK,
        RecordType.STALL,
        RecordType.INVERSION,
        RecordType.WATCH_STATE,
    }
)
_RECORDS: dict[int, np.dtype[Any]] = {
    RecordType.META: schema.META_RECORD,
    RecordType.IMAGE: schema.IMAGE_RECORD,
    RecordType.CODE: schema.CODE_RECORD,
    RecordType.STACK: schema.STACK_RECORD,
    RecordType.TYPE: schema.TYPE_RECORD,
    RecordType.THREAD: schema.THREAD_RECORD,
    RecordType.WAIT: schema.WAIT_RECORD,
    RecordType.SPAN: schema.SPAN_RECORD,
    **dict.fromkeys(WATCH_RECORDS, schema.WATCH_RECORD),
    RecordType.FREEZE: schema.FREEZE_RECORD,
    RecordType.STOP: schema.STOP_RECORD,
    RecordType.PROGRESS: schema.PROGRESS_RECORD,
    **CUDA_RECORDS,
}


def _parts(tail: bytes, *lengths: int) -> list[bytes]:
    if sum(lengths) > len(tail):
        raise ValueError("a record shorter than its text")
    parts, at = [], 0
    for length in lengths:
        parts.append(tail[at : at + length])
        at += length
    return parts


def _text(data: bytes) -> str:
    """Lone surrogates, which CPython allows in a str, become U+FFFD: no report could print them."""
    return data.decode("utf-8", "replace")


def _add(recording: Recording, kind: int, record: Any, tail: bytes) -> None:
    if kind == RecordType.META:
        key, value = _parts(tail, int(record["key_bytes"]), int(record["value_bytes"]))
        recording.metas[_text(key)] = value
    elif kind == RecordType.IMAGE:
        (path,) = _parts(tail, int(record["path_bytes"]))
        recording.images.append(Image(_text(path), int(record["bias"]), int(record["start"]), int(record["end"])))
    elif kind == RecordType.CODE:
        lengths = (int(record[name]) for name in ("file_bytes", "qualname_bytes", "linetable_bytes"))
        file, qualname, linetable = _parts(tail, *lengths)
        code = Code(_text(file), _text(qualname), int(record["first_line"]), linetable)
        recording.codes[int(record["code_id"])] = code
    elif kind == RecordType.STACK:
        frames, native = int(record["python_frames"]), int(record["native_frames"])
        python_part, native_part = _parts(tail, 8 * frames, 8 * native)
        pairs = np.frombuffer(python_part, "<u4").reshape(-1, 2).tolist()
        recording.stacks[int(record["stack_id"])] = Stack(
            tuple((code, offset) for code, offset in pairs),
            tuple(np.frombuffer(native_part, "<u8").tolist()),
            bool(record["flags"]),
        )
    elif kind == RecordType.TYPE:
        (name,) = _parts(tail, int(record["name_bytes"]))
        recording.types[int(record["type_id"])] = _text(name)
    elif kind == RecordType.THREAD:
        fields = _fields(record)
        name = bytes(record["name"])[: min(fields["name_bytes"], schema.NAME_BYTES)]
        recording.threads[fields["thread"]] = RecordedThread(_text(name), fields)
    elif kind == RecordType.FREEZE:
        recording.freezes.append(_fields(record))
    elif kind == RecordType.STOP:
        recording.stops.append(_fields(record))
    elif kind == RecordType.PROGRESS:
        recording.progress.append(_fields(record))
    elif kind == RecordType.SPAN:
        (text,) = _parts(tail, int(record["name_bytes"]))
        fields = {name: int(record[name]) for name in SPAN_FIELDS}
        overflow = bool(record["flags"] & schema.SpanFlag.OVERFLOW)
        histogram = tuple(record["histogram"].tolist())
        recording.spans[fields["span_id"]] = RecordedSpan(_text(text), overflow, histogram, fields)
    elif kind in WATCH_RECORDS:
        (text,) = _parts(tail, int(record["text_bytes"]))
        recording.watched.append((RecordType(kind), int(record["time_ns"]), _text(text)))
    elif kind in CUDA_RECORDS:
        recording.cuda.add(kind, record, tail)
