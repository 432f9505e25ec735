"""Stacks of a recording as source frames, and the source expression at a waiting instruction."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import lru_cache

from gilprobe.analysis.sources import source_lines
from gilprobe.model import Frame
from gilprobe.recording import Recording
from gilprobe.recording.linetable import Position

MOST_SEGMENT = 20_000
MOST_LINES = 300
MOST_NAME = 120


@dataclass(frozen=True, slots=True)
class Site:
    """One Python frame with its full position."""

    frame: Frame
    position: Position

    @property
    def file(self) -> str:
        return self.frame.file

    @property
    def function(self) -> str:
        return self.frame.function


class Stacks:
    """Resolves the stack ids of one recording, each once."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._sites: dict[int, tuple[Site, ...]] = {}

    def sites(self, stack_id: int) -> tuple[Site, ...]:
        """Innermost first; empty where the thread had no Python frames or the interpreter is not known."""
        sites = self._sites.get(stack_id)
        if sites is None:
            stack = self._recording.stacks.get(stack_id)
            sites = tuple(self._site(code, offset) for code, offset in stack.python) if stack else ()
            self._sites[stack_id] = sites
        return sites

    def frames(self, stack_id: int) -> tuple[Frame, ...]:
        return tuple(site.frame for site in self.sites(stack_id))

    def native(self, stack_id: int) -> tuple[int, ...]:
        stack = self._recording.stacks.get(stack_id)
        return stack.native if stack else ()

    def _site(self, code_id: int, offset: int) -> Site:
        code = self._recording.codes.get(code_id)
        if code is None:
            return Site(Frame("?", "?", 0), Position(0, 0, -1, -1))
        position = code.position(offset)
        return Site(Frame(code.qualname, code.file, position.line), position)


@lru_cache(maxsize=4096)
def expression_at(file: str, position: Position) -> ast.expr | None:
    """The expression whose evaluation the instruction belongs to; None without its source or columns."""
    if position.column < 0 or not 0 <= position.end_line - position.line <= MOST_LINES:
        return None
    source = source_lines(file)
    if not 1 <= position.line <= position.end_line <= len(source):
        return None
    lines = list(source[position.line - 1 : position.end_line])
    lines[-1] = lines[-1][: position.end_column]
    lines[0] = lines[0][position.column :]
    segment = b"\n".join(lines)
    if not 0 < len(segment.strip()) <= MOST_SEGMENT:
        return None
    try:
        if segment.startswith(b"with "):
            return _managers(ast.parse(segment).body[0])
        return ast.parse(b"(" + segment + b")", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _managers(statement: ast.stmt) -> ast.expr | None:
    """3.11 and 3.12 give the whole statement as the position of entering any of its managers."""
    if not isinstance(statement, ast.With):
        return None
    managers = [item.context_expr for item in statement.items]
    return managers[0] if len(managers) == 1 else ast.Tuple(managers, ast.Load())


def called_method(expression: ast.expr | None) -> str:
    """`get` of `queue.get()`; empty if it is no method call."""
    if isinstance(expression, ast.Call) and isinstance(expression.func, ast.Attribute):
        return expression.func.attr
    return ""


def subject_of(expression: ast.expr | None) -> str:
    """What the operation works on: `self._lock` of `with self._lock`, `items` of `items.append(x)` or `items[0]`."""
    if isinstance(expression, ast.Call):
        function = expression.func
        if isinstance(function, ast.Attribute):
            return text_of(function.value)
        return text_of(function) + "()"
    if isinstance(expression, ast.Subscript):
        return text_of(expression.value)
    if isinstance(expression, ast.Tuple):
        return " or ".join(text_of(element) for element in expression.elts)
    if isinstance(expression, ast.Name | ast.Attribute):
        return text_of(expression)
    return ""


def text_of(expression: ast.expr) -> str:
    try:
        text = ast.unparse(expression)
    except RecursionError:
        return "..."
    return text if len(text) <= MOST_NAME else text[: MOST_NAME - 3] + "..."
