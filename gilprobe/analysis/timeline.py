"""EVENT records of all processes as one Timeline: every single wait of a recording made with --events."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from mmap import MADV_DONTNEED, PAGESIZE, mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gilprobe.analysis.contention import ClassifiedWait, thread_name
from gilprobe.analysis.numbering import places_of
from gilprobe.model import Timeline, Wait
from gilprobe.recording import Recording

Ints = NDArray[np.int32]
COLUMNS = {
    "start_ns": "q",
    "duration_ns": "q",
    "wake_ns": "I",
    "spin_ns": "I",
    "thread": "i",
    "wait": "i",
    "releaser": "i",
    "release": "b",
}


def timeline_of(
    recordings: Sequence[Recording], waits: Sequence[ClassifiedWait], rows: Sequence[Wait], start_ns: int
) -> Timeline | None:
    """None where no recording has events. rows: what wait_rows made of `waits`; threads are numbered as in _threads."""
    count = sum(len(part) for recording in recordings for part in recording.events)
    if not count:
        return None
    unordered = _unordered(recordings, waits, rows, count)
    order = np.argsort(unordered["start_ns"], kind="stable")
    columns = {}
    for name, typecode in COLUMNS.items():
        column = empty_column(typecode, count)
        np.take(unordered.pop(name), order, out=column_view(column))
        columns[name] = column
    starts = column_view(columns["start_ns"])
    starts -= start_ns
    return Timeline(**columns)


def column_view(column: array[int]) -> NDArray[Any]:
    """The array's own memory."""
    return np.frombuffer(column, dtype=np.dtype(column.typecode))


def empty_column(typecode: str, count: int) -> array[int]:
    return array(typecode, [0]) * count


def _unordered(
    recordings: Sequence[Recording], waits: Sequence[ClassifiedWait], rows: Sequence[Wait], count: int
) -> dict[str, NDArray[Any]]:
    """All columns as the files have them, in one pass: what was read of a file leaves the memory again."""
    columns = {name: np.empty(count, np.dtype(typecode)) for name, typecode in COLUMNS.items()}
    tables = zip(
        _threads(recordings),
        _rows(recordings, waits, rows),
        _releasers(recordings, waits),
        _releases(recordings, waits, rows),
        strict=True,
    )
    at = 0
    for recording, (threads, row_numbers, releasers, releases) in zip(recordings, tables, strict=True):
        for part in recording.events:
            to = slice(at, at + len(part))
            for name in ("start_ns", "duration_ns", "wake_ns", "spin_ns"):
                columns[name][to] = part[name]
            columns["thread"][to] = _looked_up(threads, part["thread"])
            for name, table in (("wait", row_numbers), ("releaser", releasers), ("release", releases)):
                columns[name][to] = _looked_up(table, part["wait_id"])
            at += len(part)
            _forget(part)
    return columns


def _looked_up(table: Ints, ids: NDArray[np.uint32]) -> Ints:
    """What lies beyond the table is -1, its last entry."""
    found: Ints = table[np.minimum(ids, len(table) - 1)]
    return found


def _forget(part: NDArray[Any]) -> None:
    """The kernel may drop the pages: they are the file's, and it reads them again where somebody asks."""
    source = getattr(part.base, "obj", part.base)
    if isinstance(source, mmap) and len(part):
        begin = part.__array_interface__["data"][0] - np.frombuffer(source, np.uint8, 1).__array_interface__["data"][0]
        first = -(-begin // PAGESIZE) * PAGESIZE
        length = (begin + part.nbytes - first) // PAGESIZE * PAGESIZE
        if length > 0:
            source.madvise(MADV_DONTNEED, first, length)


def _table(entries: Sequence[tuple[int, int]]) -> Ints:
    """Ends in one -1 more, for ids that no record has."""
    table = np.full(max((key for key, _ in entries), default=0) + 2, -1, np.int32)
    for key, value in entries:
        table[key] = value
    return table


def _threads(recordings: Sequence[Recording]) -> list[Ints]:
    """Thread number in a file -> index into Profile.threads."""
    return [_table(list(places.items())) for places in places_of(recordings)]


def _of(recording: Recording, waits: Sequence[ClassifiedWait]) -> list[ClassifiedWait]:
    return [wait for wait in waits if wait.recording is recording]


def _rows(recordings: Sequence[Recording], waits: Sequence[ClassifiedWait], rows: Sequence[Wait]) -> list[Ints]:
    at = _row_numbers(rows)
    return [
        _table([(wait.wait_id, at.get(_row_key(wait), -1)) for wait in _of(recording, waits)])
        for recording in recordings
    ]


def _releasers(recordings: Sequence[Recording], waits: Sequence[ClassifiedWait]) -> list[Ints]:
    return [
        _table([(wait.wait_id, int(threads[min(wait.releaser_thread, len(threads) - 1)])) for wait in _of(r, waits)])
        for r, threads in zip(recordings, _threads(recordings), strict=True)
    ]


def _releases(recordings: Sequence[Recording], waits: Sequence[ClassifiedWait], rows: Sequence[Wait]) -> list[Ints]:
    at = _row_numbers(rows)
    known = [{(r.thread, r.stack): number for number, r in enumerate(row.releasers)} for row in rows]
    tables = []
    for recording in recordings:
        entries = []
        for wait in _of(recording, waits):
            row = at.get(_row_key(wait))
            ended_by = thread_name(recording, wait.releaser_thread), wait.releaser
            entries.append((wait.wait_id, known[row].get(ended_by, -1) if row is not None else -1))
        tables.append(_table(entries))
    return tables


def _row_numbers(rows: Sequence[Wait]) -> dict[Any, int]:
    return {(row.kind, row.object_type, row.name, row.waiter): number for number, row in enumerate(rows)}


def _row_key(wait: ClassifiedWait) -> Any:
    return wait.classified.kind, wait.object_type, wait.name, tuple(site.frame for site in wait.sites)
