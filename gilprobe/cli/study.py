"""gilprobe study: threads or processes, Pillow or nvImageCodec."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import click

from gilprobe.errors import GilprobeError

_QUICK_BUDGET_S = 90.0


@click.command()
@click.option("--quick", is_flag=True, help="About two minutes: batch 32, fewer shapes.")
@click.option("--python", "pythons", multiple=True, help="An interpreter with torch; may be given more than once.")
@click.option(
    "--workers", default="1,2,4", show_default=True, help="Worker counts; from four of them on scaling is fitted."
)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Visits to each cell.")
@click.option("--budget", type=float, help="Seconds after which no more is measured, once every cell was visited.")
@click.option("--gpu", is_flag=True, help="nvImageCodec on the GPU instead: threads, processes, processes under MPS.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder for pictures and answers; a study goes on there.")
@click.option(
    "-o",
    "--output",
    default="reports/pillow-vs-nvimagecodec",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for summary.json and index.html.",
)
def study(
    quick: bool,
    pythons: tuple[str, ...],
    workers: str,
    rounds: int,
    budget: float | None,
    gpu: bool,
    work: Path | None,
    output: Path,
) -> None:
    """Measure torch's DataLoader with threads and with processes, decoding JPEG by Pillow and by nvImageCodec."""
    try:
        if gpu:
            from gilprobe.cli.study_gpu import study_gpu

            study_gpu(pythons or (sys.executable,), rounds, budget, work, output)
            return
        _study(quick, pythons or (sys.executable,), _counts(workers), rounds, budget, work, output)
    except GilprobeError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_status)


def _study(
    quick: bool,
    pythons: tuple[str, ...],
    workers: tuple[int, ...],
    rounds: int,
    budget: float | None,
    work: Path | None,
    output: Path,
) -> None:
    from gilprobe.loader.study.matrix import cells
    from gilprobe.loader.study.page import page
    from gilprobe.loader.study.runner import Study, find_builds
    from gilprobe.loader.study.summary import summarize

    builds = find_builds(pythons)
    matrix = cells(builds, workers, quick=quick)
    folder = work or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gilprobe" / (
        "study-quick" if quick else "study"
    )
    measured = Study(builds, matrix, folder)
    known = len(measured.answers)
    if known:
        click.echo(f"Going on with {known} measurements in {folder}.", err=True)
    with click.progressbar(length=len(matrix) * rounds, label="study", file=sys.stderr) as bar:
        budget_s = budget if budget is not None else _QUICK_BUDGET_S if quick else None
        measured.run(
            rounds,
            epochs=1 if quick else 5,
            warm_up=1 if quick else 2,
            budget_s=budget_s,
            progress=lambda done, _: bar.update(done - bar.pos),
        )
    summary = summarize(builds, matrix, measured.answers, _command(quick, workers, rounds, budget, len(pythons)))
    output.mkdir(parents=True, exist_ok=True)
    _write(output / "summary.json", json.dumps(summary, indent=1) + "\n")
    _write(output / "index.html", page(summary))
    for paragraph in summary["verdict"]:
        click.echo(paragraph)
    for failure in summary["failures"]:
        click.echo(f"Not measured: {failure['cell']}: {failure['error']}")
    click.echo(f"{output / 'index.html'}")


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        counts = ()
    if not counts or counts[0] < 1:
        raise click.BadParameter(f"{text!r} is not a list of worker counts such as 1,2,4", param_hint="--workers")
    return counts


def _command(quick: bool, workers: tuple[int, ...], rounds: int, budget: float | None, pythons: int) -> str:
    words = ["gilprobe", "study", *(["--quick"] if quick else []), "--workers", ",".join(map(str, workers))]
    words += ["--rounds", str(rounds), *(["--budget", f"{budget:g}"] if budget is not None else [])]
    return shlex.join(words) + " --python PATH" * pythons


def _write(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_text(text)
    beside.replace(path)


if __name__ == "__main__":
    study()
