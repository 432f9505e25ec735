"""gilprobe study: threads or processes, Pillow or nvImageCodec."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from gilprobe.errors import GilprobeError

# Measuring ends there after a whole round; the profiles of the losing sides come after.
_BUDGET_S = {"quick": 60.0, "standard": 960.0}


@click.command()
@click.option("--quick", "scope", flag_value="quick", help="About two minutes: batch 32, two workers, two sizes.")
@click.option("--standard", "scope", flag_value="standard", default="standard", help="About twenty minutes. [default]")
@click.option("--whole", "scope", flag_value="whole", help="Every combination: hours.")
@click.option("--python", "pythons", multiple=True, help="An interpreter with torch; may be given more than once.")
@click.option(
    "--workers", default="1,2,3,4", show_default=True, help="Worker counts; from four of them on scaling is fitted."
)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Visits to each cell.")
@click.option("--budget", type=float, help="Seconds after which no more is measured, once every cell was visited.")
@click.option("--estimate", is_flag=True, help="Only say how long it would take, or what is left of it.")
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
    scope: str,
    pythons: tuple[str, ...],
    workers: str,
    rounds: int,
    budget: float | None,
    estimate: bool,
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
        _study(scope, pythons or (sys.executable,), _counts(workers), rounds, budget, estimate, work, output)
    except GilprobeError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_status)


def _study(
    scope: str,
    pythons: tuple[str, ...],
    workers: tuple[int, ...],
    rounds: int,
    budget: float | None,
    estimate: bool,
    work: Path | None,
    output: Path,
) -> None:
    from gilprobe.loader.study.cause import explain, lost
    from gilprobe.loader.study.estimate import in_words
    from gilprobe.loader.study.matrix import cells
    from gilprobe.loader.study.page import page
    from gilprobe.loader.study.runner import Study, find_builds
    from gilprobe.loader.study.summary import summarize

    builds = find_builds(pythons)
    matrix = cells(builds, workers, scope)  # type: ignore[arg-type]
    folder = work or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gilprobe" / (f"study-{scope}")
    measured = Study(builds, matrix, folder)
    known = len(measured.answers)
    if known:
        click.echo(f"Going on with {known} measurements in {folder}.", err=True)
    epochs, warm_up = (5, 2) if scope == "whole" else (1, 1)
    budget_s = budget if budget is not None else _BUDGET_S.get(scope)
    first_s, all_s = (measured.expected_s(count, epochs, warm_up) for count in (1, rounds))
    expected_s = all_s if budget_s is None else max(first_s, min(all_s, budget_s))
    click.echo(f"About {in_words(expected_s)} of measuring on an idle machine, by Pillow's speed here.", err=True)
    if estimate:
        return
    with click.progressbar(length=len(matrix) * rounds, label="study", file=sys.stderr) as bar:
        measured.run(
            rounds,
            epochs=epochs,
            warm_up=warm_up,
            budget_s=budget_s,
            progress=lambda done, _: bar.update(done - bar.pos),
        )
    by_label = {build.label: build for build in builds}

    def explained(ratios: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            explain(side, by_label[side.build], measured.pictures[side.size], folder, _profiling)
            for side in lost(ratios)
        ]

    command = _command(scope, workers, rounds, budget, len(pythons))
    summary = summarize(builds, matrix, measured.answers, command, explained)
    output.mkdir(parents=True, exist_ok=True)
    _write(output / "summary.json", json.dumps(summary, indent=1) + "\n")
    _write(output / "index.html", page(summary))
    for paragraph in summary["verdict"]:
        click.echo(paragraph)
    for failure in summary["failures"]:
        click.echo(f"Not measured: {failure['cell']}: {failure['error']}")
    click.echo(f"{output / 'index.html'}")


def _profiling(what: str) -> None:
    click.echo(f"profiling {what}", err=True)


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        counts = ()
    if not counts or counts[0] < 1:
        raise click.BadParameter(f"{text!r} is not a list of worker counts such as 1,2,4", param_hint="--workers")
    return counts


def _command(scope: str, workers: tuple[int, ...], rounds: int, budget: float | None, pythons: int) -> str:
    words = [
        "gilprobe",
        "study",
        *([] if scope == "standard" else [f"--{scope}"]),
        "--workers",
        ",".join(map(str, workers)),
    ]
    words += ["--rounds", str(rounds), *(["--budget", f"{budget:g}"] if budget is not None else [])]
    return shlex.join(words) + " --python PATH" * pythons


def _write(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_text(text)
    beside.replace(path)


if __name__ == "__main__":
    study()
