"""What is said when a recording has ended: the summary, and a page where one was asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gilprobe.errors import GilprobeError, OutputError


def check_page(page: Path, force: bool) -> None:
    if page.is_dir():
        raise OutputError(f"{page} is a folder", "Give the page a file name: --html report.html.")
    if page.exists() and not force:
        raise OutputError(f"{page} exists", "Choose another name, or add --force.")
    if not page.parent.is_dir():
        raise OutputError(f"the folder {page.parent} does not exist", "Make it first, or choose another.")


def report_on(
    recording: Path,
    page: Path | None,
    quiet: bool,
    force: bool,
    open_page: bool,
    baseline: Path | None = None,
    work: float = 1.0,
) -> None:
    if not any(recording.glob("*.gpr")):
        raise GilprobeError(
            f"nothing was recorded in {recording}",
            "The program was no CPython, or the folder could not be written to: gilprobe doctor tells.",
        )
    if quiet and page is None:
        return
    from gilprobe.analysis import load, with_waterfall

    profiled = load(recording)
    if baseline:
        profiled = with_waterfall(profiled, load(baseline), work=work)
    if not quiet:
        from gilprobe.cli import nowhere
        from gilprobe.render.text import print_summary

        try:
            print_summary(profiled, sys.stderr, recording=str(recording))
        except OSError:  # a full disk behind stderr: the script's status stands, at the interpreter's last flush too
            sys.stderr = nowhere()
    if page is not None:
        from gilprobe.render import write_report

        write_report(profiled, "html", page, force=force)
        if open_page:
            click.launch(str(page))
