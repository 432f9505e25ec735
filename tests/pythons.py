"""Interpreters to test on: all that tools/interpreters.py finds, and the environments of make setup."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gilprobe"
MISSING = ROOT / ".venv-t" / "missing"


@dataclass(frozen=True)
class Python:
    executable: str
    version: str
    free_threaded: bool

    @property
    def minor(self) -> int:
        return int(self.version.split(".")[1])

    def __str__(self) -> str:
        return f"{self.version}{'t' if self.free_threaded else ''}"


@cache
def pythons() -> tuple[Python, ...]:
    out = subprocess.run(
        [sys.executable, ROOT / "tools" / "interpreters.py", "list"], capture_output=True, text=True, check=True
    ).stdout
    found = {}
    for item in json.loads(out):
        python = Python(item["executable"], item["version"], item["free_threaded"])
        found[python.minor, python.free_threaded] = python
    return tuple(found.values())
