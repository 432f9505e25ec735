"""Decodes a chunk of records, each with its text behind it."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gilprobe.recording import schema
from gilprobe.recording.contents import Code, Image, RecordedSpan, RecordedThread, Recording, Stack
from gilprobe.recording.cuda import CUDA_RECORDS
from gilprobe.recording.schema import RecordType

SPAN_FIELDS = tuple(name for name in schema.SPAN_RECORD.names or () if name != "histogram")
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
    RecordType.LOCK_HOLD: schema.LOCK_HOLD_RECORD,
    RecordType.LONG_HOLD: schema.LONG_HOLD_RECORD,
    RecordType.FREEZE: schema.FREEZE_RECORD,
    RecordType.STOP: schema.STOP_RECORD,
    RecordType.PROGRESS: schema.PROGRESS_RECORD,
    **CUDA_RECORDS,
}


def fields_of(record: Any) -> dict[str, int]:
    return {name: int(record[name]) for name in record.dtype.names if record.dtype[name].kind == "u"}


def read_records(recording: Recording, data: mmap.mmap, start: int, length: int, waits: list[NDArray[Any]]) -> None:
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


def _path(data: bytes) -> str:
    """As os.fsdecode gives it, so that the file can be opened: bytes that are no UTF-8 are lone surrogates, which come
    as three bytes each from a str of CPython's, and raw from the kernel. What shows it replaces them.
    """
    for errors in ("surrogatepass", "surrogateescape"):
        try:
            return data.decode("utf-8", errors)
        except UnicodeDecodeError:
            continue
    return _text(data)


def _add(recording: Recording, kind: int, record: Any, tail: bytes) -> None:
    if kind == RecordType.META:
        key, value = _parts(tail, int(record["key_bytes"]), int(record["value_bytes"]))
        recording.metas[_text(key)] = value
    elif kind == RecordType.IMAGE:
        (path,) = _parts(tail, int(record["path_bytes"]))
        recording.images.append(Image(_path(path), int(record["bias"]), int(record["start"]), int(record["end"])))
    elif kind == RecordType.CODE:
        lengths = (int(record[name]) for name in ("file_bytes", "qualname_bytes", "linetable_bytes"))
        file, qualname, linetable = _parts(tail, *lengths)
        code = Code(_path(file), _text(qualname), int(record["first_line"]), linetable)
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
        fields = fields_of(record)
        name = bytes(record["name"])[: min(fields["name_bytes"], schema.NAME_BYTES)]
        recording.threads[fields["thread"]] = RecordedThread(_text(name), fields)
    elif kind == RecordType.LONG_HOLD:
        recording.long_holds.append(fields_of(record))
    elif kind == RecordType.FREEZE:
        recording.freezes.append(fields_of(record))
    elif kind == RecordType.STOP:
        recording.stops.append(fields_of(record))
    elif kind == RecordType.PROGRESS:
        recording.progress.append(fields_of(record))
    elif kind == RecordType.SPAN:
        (text,) = _parts(tail, int(record["name_bytes"]))
        fields = {name: int(record[name]) for name in SPAN_FIELDS}
        overflow = bool(record["flags"] & schema.SpanFlag.OVERFLOW)
        histogram = tuple(record["histogram"].tolist())
        recording.spans[fields["span_id"]] = RecordedSpan(_text(text), overflow, histogram, fields)
    elif kind in WATCH_RECORDS:
        (text,) = _parts(tail, int(record["text_bytes"]))
        recording.watched.append((RecordType(kind), int(record["time_ns"]), _text(text)))
    elif kind == RecordType.LOCK_HOLD:
        recording.lock_holds.append(record)
    elif kind in CUDA_RECORDS:
        recording.cuda.add(kind, record, tail)
