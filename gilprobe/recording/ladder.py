"""What gilprobe profile --cuda found on the machine before it started the script: cuda.json beside the recordings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LADDER, NVML = "cuda.json", "nvml.jsonl"
KINETO_SUFFIX = ".kineto.json"


def read_ladder(folder: Path) -> dict[str, Any]:
    """Empty where --cuda was not given, or the file is damaged."""
    try:
        read = json.loads((folder / LADDER).read_text())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def read_nvml(folder: Path) -> list[dict[str, Any]]:
    """One object a sample; a line cut off by a sudden end is left out."""
    try:
        lines = (folder / NVML).read_text().splitlines()
    except (OSError, ValueError):
        return []
    return list(_objects(lines))


def _objects(lines: list[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            read = json.loads(line)
        except ValueError:
            continue
        if isinstance(read, dict):
            yield read
