"""EVENT records of all processes as one Timeline: every single wait of a recording made with --events."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gilprobe.analysis.contention import ClassifiedWait, thread_name
from gilprobe.model import Timeline, Wait
from gilprobe.recording import Recording

Ints = NDArray[np.int32]


def timeline_of(
    recordings: Sequence[Recording], waits: Sequence[ClassifiedWait], rows: Sequence[Wait], start_ns: int
) -> Timeline | None:
    """None where no recording has events. rows: what wait_rows made of `waits`; threads are numbered as in _threads."""
    count = sum(len(part) for recording in recordings for part in recording.events)
    if not count:
        return None
    starts = np.concatenate([part["start_ns"] for recording in recordings for part in recording.events])
    order = np.argsort(starts, kind="stable")
    return Timeline(
        start_ns=_ordered("q", starts, order, minus=start_ns),
        duration_ns=_column(recordings, "duration_ns", "q", order),
        wake_ns=_column(recordings, "wake_ns", "I", order),
        spin_ns=_column(recordings, "spin_ns", "I", order),
        thread=_looked_up(recordings, "thread", "i", _threads(recordings), order),
        wait=_looked_up(recordings, "wait_id", "i", _rows(recordings, waits, rows), order),
        releaser=_looked_up(recordings, "wait_id", "i", _releasers(recordings, waits), order),
        release=_looked_up(recordings, "wait_id", "b", _releases(recordings, waits, rows), order),
    )


def column_view(column: array[int]) -> NDArray[Any]:
    """The array's own memory."""
    return np.frombuffer(column, dtype=np.dtype(column.typecode))


def empty_column(typecode: str, count: int) -> array[int]:
    return array(typecode, [0]) * count


def _column(recordings: Sequence[Recording], name: str, typecode: str, order: NDArray[np.int64]) -> array[int]:
    return _ordered(typecode, np.concatenate([part[name] for r in recordings for part in r.events]), order)


def _looked_up(
    recordings: Sequence[Recording], name: str, typecode: str, tables: Sequence[Ints], order: NDArray[np.int64]
) -> array[int]:
    """tables: one a recording, from the field's value to the column's; what lies beyond it is -1."""
    parts = []
    for recording, table in zip(recordings, tables, strict=True):
        parts += [table[np.minimum(part[name], len(table) - 1)].astype(typecode) for part in recording.events]
    return _ordered(typecode, np.concatenate(parts), order)


def _ordered(typecode: str, values: NDArray[Any], order: NDArray[np.int64], minus: int = 0) -> array[int]:
    column = empty_column(typecode, len(order))
    view = column_view(column)
    np.take(values.view(view.dtype), order, out=view)
    if minus:
        view -= minus
    return column


def _table(entries: Sequence[tuple[int, int]]) -> Ints:
    """Ends in one -1 more, for ids that no record has."""
    table = np.full(max((key for key, _ in entries), default=0) + 2, -1, np.int32)
    for key, value in entries:
        table[key] = value
    return table


def _threads(recordings: Sequence[Recording]) -> list[Ints]:
    """Thread number in a file -> index into Profile.threads."""
    tables, first = [], 0
    for recording in recordings:
        tables.append(_table([(number, first + at) for at, number in enumerate(sorted(recording.threads))]))
        first += len(recording.threads)
    return tables


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
