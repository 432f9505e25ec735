"""What a study ran on: kinds and versions, no names of machines or folders."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def interpreters() -> list[dict[str, Any]]:
    """One of each minor version and build: {executable, version, free_threaded, label}."""
    out = subprocess.run(
        [sys.executable, ROOT / "tools/interpreters.py", "list"], capture_output=True, text=True, check=True
    )
    found = {}
    for item in json.loads(out.stdout):
        item["label"] = item["version"] + ("t" if item["free_threaded"] else "")
        found[item["version"].split(".")[1], item["free_threaded"]] = item
    return list(found.values())


def described() -> dict[str, Any]:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release().split("-")[0],
        "libc": " ".join(platform.libc_ver()),
        "shared": "other programs ran on this machine meanwhile",
    }


def write_summary(
    folder: Path, summary: dict[str, Any], title: str, rows: list[list[str]], heads: list[str], notes: str = ""
) -> None:
    """summary.json and README.md of a study. notes: how the figures were got, below the table."""
    summary = {"environment": described(), **summary}
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    lines = [f"# {title}", "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    environment = ", ".join(f"{key}: {value}" for key, value in summary["environment"].items())
    lines += ["", notes] if notes else []
    lines += ["", f"Measured on {environment}. Rebuilt by `{summary['command']}`.", ""]
    (folder / "README.md").write_text("\n".join(lines))
