"""Source is read to name a lock, and nothing else is opened: the names come from the recorded program."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from gilprobe.analysis.frames import expression_at, subject_of
from gilprobe.analysis.sources import source_lines
from gilprobe.recording.linetable import Position


def test_columns_count_utf8_bytes_in_any_encoding(tmp_path: Path) -> None:
    file = tmp_path / "umlaut.py"
    file.write_bytes("# coding: latin-1\ngröße = lock.acquire()\n".encode("latin-1"))
    line = "größe = lock.acquire()".encode()
    expression = expression_at(str(file), Position(2, 2, line.index(b"lock"), len(line)))
    assert subject_of(expression) == "lock"


def test_an_expression_over_several_lines(tmp_path: Path) -> None:
    file = tmp_path / "long.py"
    file.write_text("with (\n    self._lock\n):\n    pass\nitems.append(\n    1)\n")
    assert subject_of(expression_at(str(file), Position(2, 2, 4, 14))) == "self._lock"
    assert subject_of(expression_at(str(file), Position(5, 6, 0, 6))) == "items"


@pytest.mark.parametrize(
    "position", [(0, 0, 0, 1), (1, 9, 0, 1), (9, 9, 0, 1), (-3, -3, 0, 1), (1, 1, 50, 60), (1, 1, 3, 1)]
)
def test_positions_outside_the_file_have_no_expression(tmp_path: Path, position: tuple[int, int, int, int]) -> None:
    file = tmp_path / "short.py"
    file.write_text("x\n")
    assert expression_at(str(file), Position(*position)) is None


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "script.py"
    os.mkfifo(pipe)  # opening it would wait for a writer for ever
    reader, writer = os.pipe()
    try:
        for name in (
            str(pipe),
            f"/proc/self/fd/{reader}",
            "/dev/stdin\0",
            "/dev/zero",
            str(tmp_path),
            "relative.py",
            "<string>",
            "a" * 5000,
        ):
            assert source_lines(name) == ()
    finally:
        os.close(reader)
        os.close(writer)


def test_a_name_as_deep_as_no_one_writes_it_is_cut_not_fatal() -> None:
    assert subject_of(ast.parse("f(1)" + ".a" * 100 + ".acquire()", mode="eval").body).endswith("...")
    deep: ast.expr = ast.Name("x", ast.Load())
    for _ in range(5000):
        deep = ast.Attribute(deep, "a", ast.Load())
    assert subject_of(deep) == "..."
