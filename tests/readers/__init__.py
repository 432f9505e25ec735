"""Other tools' own readers, from npm and PyPI, for what gilprobe exports."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pythons import CACHE

HERE = Path(__file__).parent


@cache
def _packages() -> Path | str:
    """The folder the readers from npm lie in, installed once a machine, or why there is none."""
    if not (shutil.which("node") and shutil.which("npm")):
        return "node or npm is not there"
    wanted = (HERE / "package.json").read_bytes()
    folder = CACHE / "readers"
    kept = folder / "package.json"
    if kept.exists() and kept.read_bytes() == wanted and (folder / "node_modules").is_dir():
        return folder
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        kept.write_bytes(wanted)
        install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
        subprocess.run(install, cwd=folder, check=True, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        return f"npm install failed: {error}"
    return folder


def _installed() -> Path:
    folder = _packages()
    if isinstance(folder, str):
        pytest.skip(f"NO READERS FROM NPM: {folder}")
    return folder


def read_by_speedscope(*files: Path) -> list[dict[str, Any]]:
    """Of each: name, profiles[] (name, unit, total, self {"function|file|line": weight}). Skips where npm fails."""
    (bundle,) = (_installed() / "node_modules" / "speedscope" / "dist" / "release").glob("speedscope-*.js")
    command = ["node", "--max-old-space-size=1024", HERE / "speedscope.mjs", bundle, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    read: list[dict[str, Any]] = json.loads(done.stdout)
    return read


def speedscope_schema() -> dict[str, Any]:
    file = _installed() / "node_modules" / "speedscope" / "dist" / "release" / "file-format-schema.json"
    schema: dict[str, Any] = json.loads(file.read_text())
    return schema


def sarif_schema() -> dict[str, Any]:
    """SARIF 2.1.0's, as OASIS publishes it. Skips where npm does not work."""
    (file,) = (_installed() / "node_modules" / "@microsoft" / "jest-sarif").rglob("sarif-2.1.0*.json")
    schema: dict[str, Any] = json.loads(file.read_text())
    return schema
