"""Sections of a terminal report that share one screen: the less important give up their last lines first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console

NO_TERMINAL_LINES = 40  # into a pipe or a file
LEAST_LINES = 20  # of a terminal, however low its window is


@dataclass(slots=True)
class Section:
    """parts: what can be left out at a time, from the last on. `least` of them stay while others can still give, then
    one of them, while others still have more than one.
    """

    parts: list[list[str]]
    rank: int
    least: int

    def __len__(self) -> int:
        return sum(map(len, self.parts))


class Screen:
    """height: lines; None for as many as there are."""

    def __init__(self, console: Console, height: int | None) -> None:
        self.console = console
        self.height = height
        self.sections: list[Section] = []

    def add(self, draw: Callable[[], None], *, rank: int, least: int = 0, rows: int = 0) -> None:
        """What `draw` prints. rank: 0 is never cut, the highest is cut first.

        rows: lines of a table's row, so that it loses whole ones and its heading last; 0: paragraphs are lost whole.
        """
        with self.console.capture() as captured:
            draw()
        lines = captured.get().splitlines()
        parts = list(_rows(lines, rows) if rows else _paragraphs(lines))
        if parts:
            self.sections.append(Section(parts, rank, least))

    def show(self) -> None:
        by_rank = sorted((section for section in self.sections if section.rank), key=lambda section: -section.rank)
        for most_kept in (LEAST_LINES, 1, 0):
            for section in by_rank:
                while self._too_high() and len(section.parts) > min(section.least, most_kept):
                    section.parts.pop()
        lines = [line for section in self.sections for part in section.parts for line in part]
        text = "".join(f"{line.rstrip(' ')}\n" for line in lines)
        encoding = getattr(self.console.file, "encoding", None) or "utf-8"
        self.console.file.write(text.encode(encoding, "replace").decode(encoding))

    def _too_high(self) -> bool:
        return self.height is not None and sum(map(len, self.sections)) > self.height


def screen_lines(console: Console, is_terminal: bool) -> int:
    """One is left for the prompt."""
    return max(LEAST_LINES, console.height - 1) if is_terminal else NO_TERMINAL_LINES


def _paragraphs(lines: list[str]) -> Iterator[list[str]]:
    """Each with the empty lines before it."""
    part: list[str] = []
    for line in lines:
        if not line.strip() and any(known.strip() for known in part):
            yield part
            part = []
        part.append(line)
    if part:
        yield part


def _rows(lines: list[str], rows: int) -> Iterator[list[str]]:
    """The heading with the first row, then row by row."""
    heading = next((at for at, line in enumerate(lines) if line.strip()), 0) + 1
    first = heading + rows
    yield lines[:first]
    for at in range(first, len(lines), rows):
        yield lines[at : at + rows]
