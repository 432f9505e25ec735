"""gilprobe report: a recording in the format that is asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gilprobe.cli.baseline import baseline_options
from gilprobe.errors import UsageError
from gilprobe.render import FORMATS, format_of, render_to, write_report


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("recording", type=click.Path(path_type=Path))
@click.option(
    "-f", "--format", "name", type=click.Choice(sorted(FORMATS)), help="[by the suffix of -o, else one screen of text]"
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="[standard output]")
@click.option(
    "--against", type=click.Path(path_type=Path), help="html: flame graphs show what changed since this recording."
)
@baseline_options
@click.option("--salvage", is_flag=True, help="Report on what can be read of a damaged recording.")
@click.option("--follow", is_flag=True, help="Show what the threads of a program that still runs do now.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def report(
    recording: Path,
    name: str | None,
    output: Path | None,
    against: Path | None,
    baseline: Path | None,
    work: float,
    salvage: bool,
    follow: bool,
    force: bool,
) -> None:
    """Make a report of a recording, in the format you name."""
    if follow:
        if name or output or baseline or against:
            raise UsageError("--follow shows a program that still runs", "Leave out -f, -o and --baseline.")
        from gilprobe.cli.live import follow as show

        show(recording, sys.stdout)
        return
    chosen = name or (format_of(output) if output else None)
    if against is not None and chosen != "html":
        raise UsageError(f"--against is for html, not for {chosen or 'text'}", "Add -f html, or leave it out.")
    from gilprobe.analysis import load, with_waterfall

    profile = load(recording, salvage=salvage)
    if baseline:
        profile = with_waterfall(profile, load(baseline, salvage=salvage), work=work)
    before = load(against, salvage=salvage) if against else None
    if chosen is None:
        from gilprobe.render.text import print_summary

        print_summary(profile, sys.stdout, recording=str(recording))
    elif output is None:
        render_to(profile, chosen, sys.stdout, before=before)
    else:
        write_report(profile, chosen, output, force=force, before=before)
