"""What all threads of a Firefox Profiler profile share: strings, files, functions, frames and the tree of stacks.

Columns as in firefox-devtools/profiler, src/types/profile.ts, version 70.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gilprobe.model import Frame, Wait
from gilprobe.render.tables import Numbers, Strings, wait_class

CATEGORIES: tuple[dict[str, Any], ...] = (
    {"name": "Other", "color": "grey", "subcategories": ["Other"]},
    {"name": "CPU", "color": "green", "subcategories": ["Other"]},
    {"name": "Wait for the GIL", "color": "red", "subcategories": ["Other"]},
    {"name": "Wait", "color": "orange", "subcategories": ["Other"]},
    {"name": "Idle", "color": "transparent", "subcategories": ["Other"]},
    {"name": "Sleep and I/O", "color": "lightblue", "subcategories": ["Other"]},
)
NO_PARENT = -1


def category(wait: Wait | None, *, on_cpu: bool = False) -> int:
    """Index into CATEGORIES."""
    if on_cpu:
        return 1
    if wait is not None and wait.kind == "gil":
        return 2
    return {"wait": 3, "idle": 4, "sleep": 5}[wait_class(wait)]


class Shared:
    def __init__(self) -> None:
        self.strings = Strings()
        self.files: Numbers[str] = Numbers()
        self.functions: Numbers[tuple[str, str]] = Numbers()
        self.frames: Numbers[tuple[int, int, int]] = Numbers()  # function, line, category
        self.nodes: Numbers[tuple[int, int]] = Numbers()  # parent's node, frame
        self.stacks: dict[tuple[tuple[Frame, ...], int], int | None] = {}

    def stack(self, frames: Sequence[Frame], category: int) -> int | None:
        """The node of a stack that has its innermost frame first; None where it is empty."""
        key = tuple(frames), category
        if key not in self.stacks:
            node = NO_PARENT
            for frame in reversed(frames):
                function = self.functions[frame.function, frame.file]
                node = self.nodes[node, self.frames[function, frame.line, category]]
            self.stacks[key] = None if node == NO_PARENT else node
        return self.stacks[key]

    def tables(self) -> dict[str, Any]:
        functions, frames = list(self.functions), list(self.frames)
        names = [self.strings[function] for function, _ in functions]
        sources = [self.files[file] if file else None for _, file in functions]
        files = [self.strings[file] for file in self.files]
        return {
            "stackTable": {
                "frame": [frame for _, frame in self.nodes],
                "prefixOffset": [
                    0 if parent == NO_PARENT else at - parent for at, (parent, _) in enumerate(self.nodes)
                ],
                "length": len(self.nodes),
            },
            "frameTable": _frame_table(frames),
            "funcTable": {
                "name": names,
                "isJS": [False] * len(names),
                "relevantForJS": [False] * len(names),
                "resource": [-1] * len(names),
                "source": sources,
                "lineNumber": [None] * len(names),
                "columnNumber": [None] * len(names),
                "originalLocation": [None] * len(names),
                "length": len(names),
            },
            "resourceTable": {"name": [], "host": [], "type": [], "length": 0},
            "nativeSymbols": {"libIndex": [], "address": [], "name": [], "functionSize": [], "length": 0},
            "sources": {
                "id": [None] * len(files),
                "filename": files,
                "startLine": [1] * len(files),
                "startColumn": [1] * len(files),
                "sourceMapURL": [None] * len(files),
                "content": [None] * len(files),
                "length": len(files),
            },
            "sourceLocationTable": {"source": [], "line": [], "column": [], "length": 0},
            "stringArray": self.strings.list(),
        }


def _frame_table(frames: list[tuple[int, int, int]]) -> dict[str, Any]:
    count = len(frames)
    return {
        "address": [-1] * count,
        "lib": [-1] * count,
        "inlineDepth": [0] * count,
        "category": [category for _, _, category in frames],
        "subcategory": [0] * count,
        "func": [function for function, _, _ in frames],
        "nativeSymbol": [None] * count,
        "innerWindowID": [None] * count,
        "line": [line or None for _, line, _ in frames],
        "column": [None] * count,
        "originalLocation": [None] * count,
        "length": count,
    }
