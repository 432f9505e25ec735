"""gilprobe report: a recording in the format that is asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gilprobe.errors import UsageError
from gilprobe.render import FORMATS, format_of, render_to, write_report


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("-f", "--format", "name", type=click.Choice(sorted(FORMATS)), help="[by the suffix of -o, else text]")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="[standard output]")
@click.option(
    "--against", type=click.Path(path_type=Path), help="html: flame graphs show what changed since this recording."
)
@click.option("--salvage", is_flag=True, help="Report on what can be read of a damaged recording.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def report(
    recording: Path, name: str | None, output: Path | None, against: Path | None, salvage: bool, force: bool
) -> None:
    """Make a report of a recording, in the format you name."""
    chosen = name or (format_of(output) if output else "text")
    if against is not None and chosen != "html":
        raise UsageError(f"--against is for html, not for {chosen}", "Add -f html, or leave it out.")
    from gilprobe.analysis import load

    profile = load(recording, salvage=salvage)
    before = load(against, salvage=salvage) if against else None
    if output is None:
        render_to(profile, chosen, sys.stdout, before=before)
    else:
        write_report(profile, chosen, output, force=force, before=before)
