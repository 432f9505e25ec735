"""Runs a script as python would, within torch.profiler: torch_profiler.py FOLDER (script.py | -m mod | -c code) [ARGS].

Writes FOLDER/PID.kineto.json at the script's end. Runs in the target: the standard library and the script's torch only.
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    torch: Any = importlib.import_module("torch")
    folder, words = Path(sys.argv[1]), sys.argv[2:]
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
    profiler.start()
    try:
        _run(words)
    finally:
        profiler.stop()
        profiler.export_chrome_trace(str(folder / f"{os.getpid()}.kineto.json"))


def _run(words: list[str]) -> None:
    """sys.argv and sys.path[0] as the script expects them."""
    if words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], str(Path.cwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *words[2:]], ""
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
    else:
        sys.argv, sys.path[0] = words, str(Path(words[0]).absolute().parent)
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main()
