"""Positions decoded from co_linetable are those that Python itself reports."""

from __future__ import annotations

import ast
import json
import linecache
import types

import pytest

from gilprobe.recording.linetable import position_at


def functions() -> list[types.CodeType]:
    found = []
    for module in (ast, json, linecache, pytest):
        for value in vars(module).values():
            code = getattr(value, "__code__", None)
            if isinstance(code, types.CodeType):
                found.append(code)
    return found


def test_every_instruction_of_real_functions_has_pythons_own_position() -> None:
    codes = functions()
    assert len(codes) > 30
    for code in codes:
        for number, (line, end_line, column, end_column) in enumerate(code.co_positions()):
            if line is None:
                continue
            position = position_at(code.co_linetable, code.co_firstlineno, 2 * number)
            expected = (line, end_line, -1 if column is None else column, -1 if end_column is None else end_column)
            assert tuple(position) == expected, (code.co_qualname, number)


def test_damaged_tables_give_the_functions_first_line() -> None:
    assert position_at(b"\xf0\x7f", 7, 900).line == 7
    assert position_at(b"", 7, 0).line == 7
    assert position_at(b"\xe8" + b"\x7f" * 100_000 + b"\x01", 7, 0).line == 7  # a number of 600,000 bits
