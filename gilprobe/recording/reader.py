"""Recordings as they lie on the disk, one file a process, read into arrays."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gilprobe.errors import RecordingError
from gilprobe.recording import cuda_schema, schema
from gilprobe.recording.chunks import chunks
from gilprobe.recording.contents import Recording
from gilprobe.recording.records import fields_of, read_records
from gilprobe.recording.schema import ChunkKind

SUFFIX = ".gpr"
RECORD_AGAIN = "Record it again with gilprobe profile."


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
    fields = fields_of(np.frombuffer(data, schema.FILE_HEADER, count=1)[0])
    if fields["format_version"] != schema.FORMAT_VERSION:
        raise RecordingError(
            f"{path} has format {fields['format_version']}, this gilprobe reads format {schema.FORMAT_VERSION}",
            "Use the gilprobe that recorded it, or record it again.",
        )
    if fields["header_bytes"] != schema.HEADER_BYTES or fields["end_ns"] < fields["start_ns"]:
        raise RecordingError(f"{path} has a damaged header", RECORD_AGAIN)
    return fields


def _read_extents(recording: Recording, data: mmap.mmap) -> None:
    waits: list[NDArray[Any]] = []
    samples: list[NDArray[Any]] = []
    for kind, start, length in chunks(recording, data):
        if kind == ChunkKind.RECORDS:
            read_records(recording, data, start, length, waits)
        elif kind == ChunkKind.EVENTS:
            recording.events.append(_array(data, schema.EVENT_RECORD, start, length))
        elif kind == ChunkKind.SAMPLES:
            samples.append(_array(data, schema.SAMPLE_RECORD, start, length))
        elif kind == ChunkKind.SPANS:
            recording.span_events.append(_array(data, schema.SPAN_EVENT_RECORD, start, length))
        elif kind == ChunkKind.GPU_WORK:
            recording.cuda.work.append(_array(data, cuda_schema.GPU_WORK, start, length))
        elif kind == ChunkKind.GPU_MARKS:
            recording.cuda.marks.append(_array(data, cuda_schema.GPU_MARK, start, length))
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
