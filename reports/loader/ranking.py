"""Profiles each planted cause and its fixed twin and looks at what the loader's profile ranks first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from reports.loader.planted import CAUSES, EXPECTED, applies

PROGRAM = Path(__file__).with_name("planted.py")
ROOT = PROGRAM.parent.parent.parent
RATE_HZ = 500


def causes() -> list[str]:
    """Those that this build can have."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    return [cause for cause in CAUSES if applies(cause, gil=gil)]


def measure(profiler: str, only: list[str] | None) -> dict[str, Any]:
    """The causes that this build can have: outcome, and the first cause of the planted one and of its twin."""
    found: dict[str, Any] = {}
    for cause in causes():
        if not only or cause in only:
            planted, fixed = (loader_of(profiler, sys.executable, cause, twin) for twin in ("planted", "fixed"))
            first = planted["causes"][0] if planted["causes"] else None
            found[cause] = {
                "outcome": "met" if is_ranked_first(cause, planted) and is_silent(cause, fixed) else "missed",
                "first": _short(first),
                "seconds": seconds_of(cause, planted),
                "twin_first": _short(fixed["causes"][0] if fixed["causes"] else None),
                "twin_seconds": seconds_of(cause, fixed),
            }
    return found


def loader_of(profiler: str, python: str, cause: str, twin: str) -> dict[str, Any]:
    """Profile.loader of one run. Raises RuntimeError with what gilprobe said where there is none."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "run.gilprobe"
        command = [profiler, "-m", "gilprobe", "profile", "-q", "--rate", str(RATE_HZ), "-o", str(recording)]
        ran = subprocess.run(
            [*command, "--python", python, str(PROGRAM), cause, twin],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        report = [profiler, "-m", "gilprobe", "report", str(recording), "-f", "json"]
        said = subprocess.run(report, capture_output=True, text=True, check=False, env=environment)
    # A shared Decoder may end the process with SIGABRT or SIGSEGV: that is its cause at work.
    if said.returncode or (ran.returncode and (cause, twin) != ("shared-decoder", "planted")):
        raise RuntimeError(f"{cause}, {twin}: {ran.stderr[-2000:]}{said.stderr[-2000:]}")
    loader: dict[str, Any] = json.loads(said.stdout)["loader"]
    return loader


def is_ranked_first(cause: str, loader: dict[str, Any]) -> bool:
    kinds, word = EXPECTED[cause]
    causes = loader["causes"]
    return bool(causes) and causes[0]["kind"] in kinds and word in causes[0]["name"]


def is_silent(cause: str, fixed: dict[str, Any]) -> bool:
    """Nothing of the cause's kinds takes 1 % of the twin's work."""
    return not {found["kind"] for found in fixed["causes"]} & set(EXPECTED[cause][0])


def is_less(cause: str, planted: dict[str, Any], fixed: dict[str, Any]) -> bool:
    """At most a fifth: on crowded cores a thread that is put off with the GIL makes others wait, planted or not."""
    return seconds_of(cause, fixed) < seconds_of(cause, planted) / 5


def seconds_of(cause: str, loader: dict[str, Any]) -> float:
    """Seconds the workers lost to the cause's kinds while they had work."""
    kinds, _ = EXPECTED[cause]
    parts = [loader["parts"].get(part, {}) for part in ("dataset", "collate", "output wait")]
    return float(sum(part.get(kind, 0.0) for part in parts for kind in kinds))


def _short(cause: dict[str, Any] | None) -> str:
    if cause is None:
        return "none"
    name = f": {cause['name']}" if cause["name"] else ""
    return f"{cause['share']:.1%} {cause['kind']} in the {cause['part']}{name} ({cause['evidence']})"
