"""A hot object's name: from the instructions at which it was sampled, marked in the source between « and »."""

from __future__ import annotations

from pathlib import Path

import pytest

from gilprobe.analysis.frames import Site
from gilprobe.analysis.object_names import name_object
from gilprobe.model import Frame
from gilprobe.recording.linetable import Position


def site(folder: Path, source: str, tail: str = "") -> tuple[Path, Position]:
    """The file without its marks, and the marked range on its one line."""
    lines = source.splitlines()
    number = next(n for n, line in enumerate(lines) if "«" in line)
    column, end = lines[number].index("«"), lines[number].index("»") - 1
    file = folder / f"script{tail}.py"
    file.write_text(source.replace("«", "").replace("»", ""))
    return file, Position(number + 1, number + 1, column, end)


def named(folder: Path, object_type: str, *sources: str) -> str:
    """The name for samples that are equally many at each mark; the sources differ in nothing but the mark."""
    sites = []
    for source in sources:
        file, position = site(folder, source)
        sites.append((Site(Frame("load", str(file), position.line), position), 1 / len(sources)))
    return str(name_object(object_type, sites))


LOOP = """
{module}
def outer(shared):
    def load(given):
        {before}
        for _ in range(9):
            {line}
"""


@pytest.mark.parametrize(
    ("module", "before", "lines", "object_type", "name"),
    [
        ("config = object()", "", ["x = «config»"], "Config", "config in load (module global)"),
        ("import config", "", ["x = «config».a"], "module", "config in load (module global)"),
        ("", "", ["«import json»"], "dict", "import json in load (used by an import statement)"),
        ("", "", ["«from json import a»"], "ModuleSpec", "from json import a in load (used by an import statement)"),
        ("", "", ["x = «shared»"], "Config", "shared in load (closure variable)"),
        ("", "", ["x = «given»"], "Config", "given in load (argument)"),
        ("", "own = shared", ["x = «own»"], "Config", "shared in load (closure variable)"),
        ("", "own = given.items", ["x = «own»"], "Config", "given.items in load (attribute of argument given)"),
        ("", "own = []", ["x = «own»"], "list", "own in load (local variable)"),
        ("", "", ["x = «given[0]»"], "Config", "given[0] in load (element of argument given)"),
        ("", "", ["x = «given[0]»"], "list", "given in load (argument)"),
        # Fetched and stored, never loaded by name: the element. The container is loaded by name too.
        ("", "", ["x = «given[0]»", "«x» = given[0]"], "Config", "given[0] in load (element of argument given)"),
        ("", "", ["x = «given[0]»", "x = «given»[0]"], "Config", "given in load (argument)"),
        ("", "", ["x = «given.v»", "«x» = given.v"], "Value", "given.v in load (attribute of argument given)"),
        ("", "", ["«given.append(1)»"], "list", "given in load (argument)"),
        ("", "own = shared", ["x = «own()»"], "C", "shared() in load (touched by the call of closure variable shared)"),
        ("", "", ["x = «len»(given)"], "builtin_function_or_method", "len in load (builtin)"),
    ],
)  # fmt: skip
def test_name(tmp_path: Path, module: str, before: str, lines: list[str], object_type: str, name: str) -> None:
    sources = [LOOP.format(module=module, before=before or "pass", line=line) for line in lines]
    assert named(tmp_path, object_type, *sources) == name


def test_no_name_without_the_source(tmp_path: Path) -> None:
    gone = Site(Frame("load", str(tmp_path / "gone.py"), 3), Position(3, 3, 0, 4))
    assert name_object("Config", [(gone, 1.0)]) is None
