"""gilprobe study --gpu: nvImageCodec on this machine's GPU by threads, processes and processes under MPS."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import click

SECONDS, BUDGET_S = 2.0, 600.0


def study_gpu(pythons: tuple[str, ...], rounds: int, budget_s: float | None, work: Path | None, output: Path) -> None:
    """Raises GilprobeError where there is no GPU. Without the known-answer test (make gpu-study) switches count as
    uncalibrated."""
    from gilprobe.loader.study.gpu import MODES, GpuStudy, cells, require_gpu
    from gilprobe.loader.study.gpu_summary import HEADS, summarize, table
    from gilprobe.loader.study.matrix import SIZES
    from gilprobe.loader.study.pictures import pictures
    from gilprobe.loader.study.runner import find_builds

    require_gpu()
    builds = {build.label: build.python for build in find_builds(pythons) if not build.gil.endswith("gil=1")}
    end = time.monotonic() + (budget_s or BUDGET_S)
    with tempfile.TemporaryDirectory(prefix="gilprobe-gpu-") as name:
        folder = work or Path(name)
        study = GpuStudy(builds, pictures(folder, SIZES[0]), Path(name), seconds=SECONDS)
        answers: dict[str, dict[str, object]] = {}
        wanted = list(cells(list(builds), MODES, ["hybrid", "gpu", "hardware"], rounds))
        study.run(wanted, answers, lambda: time.monotonic() > end, lambda key, _: click.echo(key, err=True))
    summary = summarize(answers)
    output.mkdir(parents=True, exist_ok=True)
    (output / "gpu.json").write_text(json.dumps(summary, indent=1) + "\n")
    for failure in summary["failures"]:
        click.echo(f"Not measured: {failure['cell']}: {failure['error']}")
    for item in summary["comparisons"]:
        click.echo(
            f"{item['build']}, {item['backend']}, {item['workers']} workers: threads / processes {item['ratio']:.2f}, "
            f"{item['outcome']}; {item['verdict']}"
        )
    for row in (list(HEADS), *table(summary)):
        click.echo("  ".join(row))
