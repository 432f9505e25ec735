"""The interpreters that the suite measures, each with what the subjects need."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tools import interpreters

WANTED = (("3.11", False), ("3.13", False), ("3.13", True))
REQUIREMENTS = (
    "hypothesis==6.155.7",
    "pillow>=11",
    "nvidia-nvimgcodec-cu12>=0.9",
)  # newer ones have no wheel for 3.13t
INSTALL_S = 240


@dataclass(frozen=True)
class Environment:
    """`name`: 3.11, 3.13 or 3.13t."""

    name: str
    python: str


def environments() -> tuple[list[Environment], list[str]]:
    """What there is, and what is lacking, in words."""
    found, lacking = [], []
    here = interpreters.interpreters()
    for version, free in WANTED:
        name = version + "t" * free
        fits = [i for i in here if str(i["version"]).startswith(f"{version}.") and i["free_threaded"] == free]
        if not fits:
            lacking.append(f"no CPython {name} on this machine: not measured there")
            continue
        home = interpreters.CACHE / "stress" / f"{fits[-1]['version']}{'t' * free}"
        lacking += [f"{name}: {text}" for text in _furnish(str(fits[-1]["executable"]), home)]
        found.append(Environment(name, str(home / "bin" / "python")))
    return found, lacking


def _furnish(python: str, home: Path) -> list[str]:
    ready = home / "ready"
    if ready.exists():
        return ready.read_text().splitlines()
    subprocess.run([python, "-m", "venv", str(home)], check=True, timeout=INSTALL_S)
    lacking = []
    for each in REQUIREMENTS:
        install = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", each]
        try:
            done = subprocess.run(install, capture_output=True, timeout=INSTALL_S)
        except subprocess.TimeoutExpired:
            done = None
        if done is None or done.returncode:
            lacking.append(f"{each} does not install")
    ready.write_text("\n".join(lacking))
    return lacking


def variables(environment: Environment) -> dict[str, str]:
    """An extension that asks for the GIL gets none: what is measured is the build without it."""
    return {**os.environ, **({"PYTHON_GIL": "0"} if environment.name.endswith("t") else {})}
