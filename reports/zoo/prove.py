"""Proves on a hot zoo program, and what that program's own count says of the same two seconds."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gilprobe.analysis import load
from gilprobe.analysis.proof import CONTROL, FOLDER, FROZEN, Slice, matched_slices
from gilprobe.model import Proof, ProofRun
from gilprobe.recording import read_folder
from reports.zoo.record import ZOO


@dataclass(frozen=True)
class Proven:
    proof: Proof
    truth: float | None  # share (0-1) of the CPU an operation took that it takes no longer; None: no whole second

    def cores(self) -> float:
        """That the threads had together while they fought."""
        run = self.proof.runs.get(FROZEN)
        return run.cores_before if run else 0.0

    def control(self) -> ProofRun | None:
        return self.proof.runs.get(CONTROL)


def prove_hot(python: str, case: str, seconds: float, objects: int = 3) -> Proven:
    """Raises CalledProcessError where gilprobe or the program fails."""
    with tempfile.TemporaryDirectory(prefix="gilprobe-prove-") as name:
        folder, passes = Path(name) / "hot.gilprobe", Path(name) / "passes"
        subprocess.run(
            [sys.executable, "-m", "gilprobe", "profile", "-q", "--prove", str(objects), "-o", str(folder),
             "--python", python, str(ZOO / "hot.py"), case, "2", str(seconds), str(passes)],
            check=True, capture_output=True, timeout=300,
        )  # fmt: skip
        proof = load(folder).proof
        assert proof is not None
        frozen = read_folder(folder / FOLDER / FROZEN)[0]  # the last run: `passes` is its
        return Proven(proof, _freed(passes, matched_slices(frozen)))


def _freed(passes: Path, windows: Sequence[Sequence[Slice]]) -> float | None:
    by_thread: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for line in passes.read_text().splitlines():
        thread, wall_ns, cpu_ns = line.split()
        by_thread[thread].append((int(wall_ns), int(cpu_ns)))
    costs = [_cost(by_thread, window) for window in windows]
    return None if None in costs else 1 - costs[1] / costs[0]  # type: ignore[operator]


def _cost(by_thread: dict[str, list[tuple[int, int]]], window: Sequence[Slice]) -> float | None:
    """CPU a pass."""
    spent_ns = count = 0
    for marks in by_thread.values():
        for piece in window:
            inside = [cpu_ns for wall_ns, cpu_ns in marks if piece.start_ns <= wall_ns < piece.end_ns]
            if inside:
                spent_ns += inside[-1] - inside[0]
                count += len(inside) - 1
    return spent_ns / count if count else None
