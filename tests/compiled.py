"""Libraries of C that tests and the programs they record need."""

from __future__ import annotations

import subprocess
from pathlib import Path


def shared_library(source: str, folder: Path, *, optimize: int = 1) -> Path:
    (folder / "library.c").write_text(source)
    library = folder / "library.so"
    command = ["gcc", f"-O{optimize}", "-shared", "-fPIC", "-o", library, folder / "library.c"]
    subprocess.run(command, check=True)
    return library
