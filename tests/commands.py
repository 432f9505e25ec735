"""gilprobe's own command line, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pythons import ROOT


def gilprobe(*arguments: object, cwd: Path, **more: object) -> subprocess.CompletedProcess[str]:
    """more: as subprocess.run takes it."""
    command = [sys.executable, "-m", "gilprobe", *map(str, arguments)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False, env=variables, **more
    )  # type: ignore[call-overload,no-any-return]
