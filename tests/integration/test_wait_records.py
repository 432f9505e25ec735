"""Waits of one thread that differ in anything have records of their own."""

from __future__ import annotations

import collections
import subprocess
from pathlib import Path

from pythons import Python

from gilprobe.launch.target import Options, environment
from gilprobe.recording import read_folder
from gilprobe.recording.schema import Op

LINES = 60
PAUSE_S = 0.001


def test_calls_of_two_kinds_at_neighbouring_lines_are_kept_apart(any_python: Python, tmp_path: Path) -> None:
    """Stacks are numbered as they come: small numbers, as those of the kinds are."""
    pair = f"time.sleep({PAUSE_S})\nselect.select([], [], [], {PAUSE_S})\n"
    script = tmp_path / "lines.py"
    script.write_text("import select, time\n" + LINES * pair)
    (tmp_path / "r").mkdir()
    variables = environment(tmp_path / "r", Options(rate_hz=0))
    subprocess.run([any_python.executable, script], env=variables, check=True, timeout=300)
    (recording,) = read_folder(tmp_path / "r")
    counts: collections.Counter[int] = collections.Counter()
    for record in recording.waits:
        counts[int(record["op"])] += int(record["count"])
    assert (counts[Op.SLEEP], counts[Op.POLL]) == (LINES, LINES)
    assert all(record["count"] == 1 for record in recording.waits if record["op"] in (Op.SLEEP, Op.POLL))
