"""co_linetable, from bytecode offset to source position (CPython Objects/locations.md, 3.11 and later)."""

from __future__ import annotations

from typing import NamedTuple

NO_LOCATION = 15
LONG_FORM = 14
NO_COLUMNS = 13
MOST_SHIFT = 30
ONE_LINE_FIRST = 10  # 10, 11, 12: 0, 1, 2 lines on, columns in the next two bytes


class Position(NamedTuple):
    """A source range; columns are UTF-8 bytes from 0, -1 where not known."""

    line: int
    end_line: int
    column: int
    end_column: int


def position_at(linetable: bytes, first_line: int, offset: int) -> Position:
    """The position of the instruction `offset` bytes into the bytecode; the function's first line if there is none."""
    at, address, line = 0, 0, first_line
    unknown = Position(first_line, first_line, -1, -1)
    try:
        while at < len(linetable):
            first = linetable[at]
            code, units = first >> 3 & 15, (first & 7) + 1
            at += 1
            position = None
            if code == NO_LOCATION:
                pass
            elif code == LONG_FORM:
                delta, at = _signed(linetable, at)
                lines, at = _unsigned(linetable, at)
                column, at = _unsigned(linetable, at)
                end_column, at = _unsigned(linetable, at)
                line += delta
                position = Position(line, line + lines, column - 1, end_column - 1)
            elif code == NO_COLUMNS:
                delta, at = _signed(linetable, at)
                line += delta
                position = Position(line, line, -1, -1)
            elif code >= ONE_LINE_FIRST:
                line += code - ONE_LINE_FIRST
                position = Position(line, line, linetable[at], linetable[at + 1])
                at += 2
            else:
                low = linetable[at]
                at += 1
                column = code << 3 | low >> 4
                position = Position(line, line, column, column + (low & 15))
            address += 2 * units
            if offset < address:
                return position or unknown
    except IndexError:
        pass
    return unknown


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    value, shift = data[at] & 63, 0
    while data[at] & 64:
        at += 1
        shift += 6
        if shift > MOST_SHIFT:
            raise IndexError("no line number is as long")
        value |= (data[at] & 63) << shift
    return value, at + 1


def _signed(data: bytes, at: int) -> tuple[int, int]:
    value, at = _unsigned(data, at)
    return -(value >> 1) if value & 1 else value >> 1, at
