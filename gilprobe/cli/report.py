"""gilprobe report: a recording in the format that is asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gilprobe.render import FORMATS, format_of, render_to, write_report


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("recording", type=click.Path(path_type=Path))
@click.option(
    "-f", "--format", "name", type=click.Choice(sorted(FORMATS)), help="[by the suffix of -o, else one screen of text]"
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="[standard output]")
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    help="A recording of the same script with one worker: what the speed-up was lost to.",
)
@click.option(
    "--work",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="With --baseline: this run's work, in units of the baseline's.",
)
@click.option("--salvage", is_flag=True, help="Report on what can be read of a damaged recording.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def report(
    recording: Path,
    name: str | None,
    output: Path | None,
    baseline: Path | None,
    work: float,
    salvage: bool,
    force: bool,
) -> None:
    """Make a report of a recording, in the format you name."""
    chosen = name or (format_of(output) if output else None)
    from gilprobe.analysis import load, with_waterfall

    profile = load(recording, salvage=salvage)
    if baseline:
        profile = with_waterfall(profile, load(baseline, salvage=salvage), work=work)
    if chosen is None:
        from gilprobe.render.text import print_summary

        print_summary(profile, sys.stdout, recording=str(recording))
    elif output is None:
        render_to(profile, chosen, sys.stdout)
    else:
        write_report(profile, chosen, output, force=force)
