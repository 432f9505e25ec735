"""Writes recordings in the native core's format, for states that a real process leaves only by bad luck."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gilprobe.recording import schema
from gilprobe.recording.schema import ChunkKind, EndKind, HeaderFlag, RecordType

CHUNK_BYTES = 8192
EXTENT_BYTES = 65536
SECOND = 1_000_000_000


def record(kind: RecordType, dtype: np.dtype[Any], tail: bytes = b"", flags: int = 0, **fields: Any) -> bytes:
    made = np.zeros((), dtype)
    for name, value in fields.items():
        made[name] = value
    tail += bytes(-len(tail) % 8)
    made["type"], made["flags"], made["bytes"] = kind, flags, dtype.itemsize + len(tail)
    return made.tobytes() + tail


def thread(number: int, name: str = "worker", **fields: int) -> bytes:
    """Lives from second 1 to second 11 unless `fields` say otherwise."""
    data = name.encode()
    known = {"start_ns": SECOND, "end_ns": 11 * SECOND, "read_ns": 11 * SECOND, "tid": 100 + number}
    padded = np.frombuffer(data.ljust(schema.NAME_BYTES, b"\0"), f"V{schema.NAME_BYTES}")[0]
    return record(
        RecordType.THREAD, schema.THREAD_RECORD, thread=number, name=padded, name_bytes=len(data), **known | fields
    )


def wait(number: int, thread: int, flags: int = 0, **fields: int) -> bytes:
    return record(RecordType.WAIT, schema.WAIT_RECORD, flags=flags, wait_id=number, thread=thread, **fields)


def code(number: int, file: str, function: str, first_line: int = 1) -> bytes:
    texts = file.encode(), function.encode(), bytes([13 << 3 | 7, 0])  # eight units on the first line, no columns
    lengths = dict(zip(("file_bytes", "qualname_bytes", "linetable_bytes"), map(len, texts), strict=True))
    return record(
        RecordType.CODE, schema.CODE_RECORD, b"".join(texts), code_id=number, first_line=first_line, **lengths
    )


def stack(number: int, *codes: int, truncated: bool = False) -> bytes:
    frames = np.array([(code, 0) for code in codes], "<u4").tobytes()
    return record(
        RecordType.STACK, schema.STACK_RECORD, frames, flags=int(truncated), stack_id=number, python_frames=len(codes)
    )


def chunk(payload: bytes, kind: ChunkKind = ChunkKind.RECORDS) -> bytes:
    made = np.zeros((), schema.CHUNK_HEADER)
    made["magic"], made["kind"], made["bytes"], made["length"] = schema.CHUNK_MAGIC, kind, CHUNK_BYTES, len(payload)
    return (made.tobytes() + payload).ljust(CHUNK_BYTES, b"\0")


def extent(*chunks: bytes) -> bytes:
    made = np.zeros((), schema.EXTENT_HEADER)
    used = schema.EXTENT_HEADER.itemsize + sum(map(len, chunks))
    made["magic"], made["bytes"], made["used"] = schema.EXTENT_MAGIC, EXTENT_BYTES, used
    return (made.tobytes() + b"".join(chunks)).ljust(EXTENT_BYTES, b"\0")


@dataclass
class Written:
    """A file of one process that ran from second 1 to second 11."""

    extents: list[bytes] = field(default_factory=list)
    pid: int = 7
    flags: int = HeaderFlag.PYTHON_STACKS
    header: dict[str, int] = field(default_factory=dict)

    def into(self, folder: Path) -> Path:
        made = np.zeros((), schema.FILE_HEADER)
        known = {
            "magic": schema.MAGIC, "format_version": schema.FORMAT_VERSION, "header_bytes": schema.HEADER_BYTES,
            "pid": self.pid, "python_hex": 0x030D0000, "flags": self.flags, "end_kind": EndKind.EXIT,
            "start_ns": SECOND, "end_ns": 11 * SECOND, "start_ticks": 0, "end_ticks": 10 * SECOND,
        }  # fmt: skip
        for name, value in (known | self.header).items():
            made[name] = value
        data = made.tobytes().ljust(schema.HEADER_BYTES, b"\0") + b"".join(self.extents)
        (folder / f"{self.pid}-1.gpr").write_bytes(data)
        return folder
