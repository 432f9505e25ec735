"""Finds the chunks of a recording's file, over holes and damage."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np

from gilprobe.recording import schema
from gilprobe.recording.contents import Recording

PAGE = 4096
PAGES_AT_ONCE = 4096


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


def chunks(recording: Recording, data: mmap.mmap) -> Iterator[tuple[int, int, int]]:
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
