"""A capture from a real GPU for the tests: records as CUPTI gave them and as we keep them, with its version."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

from gilprobe.recording import read_folder

MOST_ROWS = 2000


def write_fixture(folders: Sequence[Path], path: Path) -> None:
    """One JSON object a process, a line each: states, contexts, uses, work and marks as lists of rows."""
    with gzip.open(path, "wt") as out:
        for folder in folders:
            for recording in read_folder(folder):
                cuda = recording.cuda
                if cuda.states:
                    work, marks = cuda.all_work()[:MOST_ROWS], cuda.all_marks()[:MOST_ROWS]
                    captured = {
                        "states": [{**state, "path": Path(state["path"]).name} for state in cuda.states],
                        "contexts": cuda.contexts,
                        "uses": cuda.uses,
                        "work_columns": work.dtype.names,
                        "work": work.tolist(),
                        "mark_columns": marks.dtype.names,
                        "marks": marks.tolist(),
                        "raw": [base64.b64encode(raw).decode() for raw in cuda.raw],
                    }
                    out.write(json.dumps(captured) + "\n")
