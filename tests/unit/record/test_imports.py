"""A program may import gilprobe to mark its spans: it must not get numpy with it."""

from __future__ import annotations

import subprocess

import pytest
from pythons import ROOT, Python

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
before = set(sys.modules)
{}
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
foreign = loaded - {{"gilprobe"}} - set(sys.stdlib_module_names)
assert not foreign, foreign
assert "ctypes" not in sys.modules, "where nothing records, nothing is loaded"
"""


@pytest.mark.parametrize(
    "code",
    [
        "import gilprobe",
        "import gilprobe\nwith gilprobe.span('a'): pass\ngilprobe.span('b')(lambda: None)()",
    ],
)
def test_a_program_that_marks_spans_needs_the_standard_library_only(any_python: Python, code: str) -> None:
    command = [any_python.executable, "-I", "-S", "-c", SCRIPT.format(code), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
