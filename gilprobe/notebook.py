"""%%gilprobe: runs a cell with the recorder and shows the report page below it."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from html import escape
from pathlib import Path
from typing import Any

from gilprobe.analysis import load
from gilprobe.errors import GilprobeError, UsageError
from gilprobe.record.inside import profile
from gilprobe.render import base

PAGE_PIXELS = 700
USAGE = "%%gilprobe [--events] [--rate HZ] [-o FOLDER] [--force]"


def load_ipython_extension(ipython: Any) -> None:
    """%load_ext gilprobe"""

    def gilprobe(line: str, cell: str) -> None:
        _run(ipython, line, cell)

    ipython.register_magic_function(gilprobe, magic_kind="cell")


def _run(ipython: Any, line: str, cell: str) -> None:
    try:
        options, output = _options(line)
        if ipython.should_run_async(cell, transformed_cell=ipython.transform_cell(cell)):
            raise UsageError(
                "%%gilprobe cannot run a cell that awaits at its top",
                "Await inside of it: with gilprobe.profile() as recording: await ...",
            )
        folder = Path(output) if output else Path(tempfile.mkdtemp(prefix="gilprobe-")) / "notebook.gilprobe"
        with profile(folder, **options):
            # The cell's own errors are shown by IPython, as without us.
            ipython.run_cell(cell)
        page = base.renderer("html").render(load(folder))
        if not output:
            shutil.rmtree(folder.parent)
    except GilprobeError as error:
        print(error)
        return
    _show(page if isinstance(page, str) else page.decode())


def _show(page: str) -> None:
    from IPython import display

    # A frame of its own: the page's styles and scripts stay out of the notebook.
    display.display(  # type: ignore[no-untyped-call]
        display.HTML(  # type: ignore[no-untyped-call]
            f'<div><iframe srcdoc="{escape(page, quote=True)}" sandbox="allow-scripts" title="gilprobe report" '
            f'style="width: 100%; height: {PAGE_PIXELS}px; border: 1px solid #8888"></iframe></div>'
        )
    )


def _options(line: str) -> tuple[dict[str, Any], str | None]:
    options: dict[str, Any] = {}
    output = None
    words = iter(shlex.split(line))
    try:
        for word in words:
            if word == "--events":
                options["events"] = True
            elif word == "--force":
                options["force"] = True
            elif word == "--rate":
                options["rate_hz"] = int(next(words))
            elif word in ("-o", "--output"):
                output = next(words)
            else:
                raise UsageError(f"%%gilprobe does not know {word}", f"Usage: {USAGE}")
    except (StopIteration, ValueError) as error:
        raise UsageError(f"%%gilprobe {line} lacks a value", f"Usage: {USAGE}") from error
    return options, output
