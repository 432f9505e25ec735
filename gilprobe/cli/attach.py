"""gilprobe attach: record a program that runs already, for a while."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

import click

from gilprobe.cli.closing import check_page, report_on
from gilprobe.errors import GilprobeError, UsageError
from gilprobe.launch import Options
from gilprobe.launch.attached import Attached
from gilprobe.record.folder import default_name, make_folder, remove_empty
from gilprobe.record.inside import DEFAULT_HZ, MOST_HZ

LOOK_S = 0.1


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--for", "seconds", type=click.FloatRange(min=0, min_open=True), help="End after so many seconds.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for the recording [SCRIPT.DATE-PID.gilprobe]."
)
@click.option("--html", type=click.Path(path_type=Path), help="Also write a report page here.")
@click.option("--events", is_flag=True, help="Keep every single wait, for the timeline.")
@click.option(
    "--rate",
    default=DEFAULT_HZ,
    show_default=True,
    type=click.IntRange(0, MOST_HZ),
    help="CPU samples a second; 0 = none.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing recording or page.")
@click.option("--live", is_flag=True, help="Show what the threads do while they do it.")
@click.option("-q", "--quiet", is_flag=True, help="No summary at the end.")
@click.option("--end", is_flag=True, help="Only end a recording that an attach left, because it was killed.")
@click.argument("pid", type=click.IntRange(min=1))
def attach(
    seconds: float | None,
    output: Path | None,
    html: Path | None,
    events: bool,
    rate: int,
    force: bool,
    live: bool,
    quiet: bool,
    end: bool,
    pid: int,
) -> int:
    """Record a Python program that runs already, until Ctrl-C, or --for so many seconds; then report.

    One of its threads stands still for a call or two at the start and at the end, and goes on as before afterwards.
    Waits that began before the recording are not seen until they end. Programs that it runs meanwhile are not recorded.
    """
    process = Attached(pid)
    if end:
        process.end()
        return 0
    if live:
        from gilprobe.cli.live import Watching, check_terminal

        check_terminal()
    if pid == os.getpid():
        raise UsageError("that is gilprobe's own process", "Give the number of the program to record.")
    recording = (output or default_name(_program(pid))).absolute()
    if html:
        check_page(html, force)
    make_folder(recording, force, overwrite_by="--force")
    try:
        _give_to_its_user(recording, pid)
        process.begin(recording, Options(events=events, rate_hz=rate).variable())
    except BaseException:
        remove_empty(recording)
        raise
    if not quiet and not live:
        how = f"for {seconds:g} s; Ctrl-C ends it sooner" if seconds else "until Ctrl-C"
        print(f"gilprobe: recording process {pid} into {recording} {how}", file=sys.stderr)
    with _until_told() as told, Watching(recording) if live else nullcontext():
        over_s = time.monotonic() + seconds if seconds else None
        while not told and process.lives and (over_s is None or time.monotonic() < over_s):
            time.sleep(LOOK_S if over_s is None else max(0.0, min(LOOK_S, over_s - time.monotonic())))
        process.end()
    try:
        report_on(recording, html, quiet, force, open_page=False)
    except GilprobeError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


@contextmanager
def _until_told() -> Iterator[list[int]]:
    """The signals that came and would have ended us: the program must not be left as it is."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _program(pid: int) -> str:
    """As gilprobe profile would call it: the script's name, or the interpreter's."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    script = next((Path(os.fsdecode(word)) for word in words[1:] if word and not word.startswith(b"-")), None)
    return (script.stem if script else "") or "python"


def _give_to_its_user(folder: Path, pid: int) -> None:
    """Root's folder is of no use to a program that is not root's."""
    status = Path(f"/proc/{pid}").stat()
    if os.geteuid() == 0 and status.st_uid != 0:
        os.chown(folder, status.st_uid, status.st_gid)
