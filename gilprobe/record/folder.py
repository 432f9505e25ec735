"""The folder that a recording goes into."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from gilprobe.errors import OutputError

# What may lie in a recording beside the processes' files: py-spy's own, --cuda's, and the reruns of --prove.
BESIDE = ("py-spy.trace.json", "py-spy.json", "py-spy.log", "cuda.json", "nvml.jsonl", "proof")


def default_name(program: str) -> Path:
    return Path(f"{program}.{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.gilprobe")


def make_folder(recording: Path, force: bool, *, overwrite_by: str) -> None:
    """An empty folder. Only a recording is ever overwritten, and only by force; `overwrite_by` says how to ask for it.

    Raises OutputError.
    """
    if recording.exists():
        if not force:
            raise OutputError(f"{recording} exists", f"Choose another name, or add {overwrite_by}.")
        if not recording.is_dir() or any(not _ours(path) for path in recording.iterdir()):
            raise OutputError(f"{recording} is not a recording", "Choose another name: it will not be overwritten.")
    try:
        if recording.exists():
            shutil.rmtree(recording)
        recording.mkdir()
    except FileNotFoundError as error:
        raise OutputError(
            f"the folder {recording.parent} does not exist", "Make it first, or choose another."
        ) from error
    except OSError as error:
        raise OutputError(f"{recording} cannot be made: {error.strerror}", "Choose another place.") from error


def remove_empty(recording: Path) -> None:
    """Of a recording that could not begin."""
    for file in recording.glob("*.gpr"):
        file.unlink()
    recording.rmdir()


def _ours(path: Path) -> bool:
    return path.suffix == ".gpr" or path.name in BESIDE or path.name.endswith(".kineto.json")
