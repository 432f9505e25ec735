"""What a running program's threads do now: a screen that refreshes itself, read from the recording as it grows."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gilprobe.analysis.live import LiveThread, Snapshot, snapshot
from gilprobe.errors import GilprobeError, RecordingError, UsageError
from gilprobe.model import SLEEP_IO, IdleKind, own_frame
from gilprobe.render.wording import place, plain, seconds

LEAST_INTERVAL_S = 0.5
LINES_INTERVAL_S = 2.0
SHARE_OF_ONE_CORE = 0.1  # of the machine's time for looking: a long recording is read less often
MOST_WAITS = 6
LEAST_SHARE = 0.005
WAITS_FOR_IT_S = 10.0
CALM = frozenset({*IdleKind, SLEEP_IO})


class Watching:
    """`with Watching(recording):` shows the screen on stderr while the script runs."""

    def __init__(self, recording: Path) -> None:
        self._recording = recording
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gilprobe-live", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        # What stays on the screen belongs to the script and to the summary.
        console = Console(file=sys.stderr, highlight=False)
        with Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        ) as live:
            _refresh(self._recording, console, live, self._over)


def check_terminal() -> None:
    if not sys.stderr.isatty():
        raise UsageError(
            "--live needs a terminal, and standard error is none",
            "Leave it out, and look at the recording from elsewhere: gilprobe report FOLDER --follow.",
        )


def follow(recording: Path, out: TextIO) -> None:
    """Until the last process of the recording has ended. Screens to a terminal, one after the other into a pipe.

    Raises RecordingError where there is no recording, or nothing comes.
    """
    if not recording.exists():
        raise RecordingError(f"{recording} does not exist", "Give the folder that gilprobe profile is writing.")
    over = threading.Event()
    console = Console(file=out, highlight=False, width=None if out.isatty() else 80)
    try:
        if not out.isatty():
            _refresh(recording, console, None, over)
            return
        with Live(console=console, auto_refresh=False, screen=False) as live:
            _refresh(recording, console, live, over)
    except KeyboardInterrupt:
        return


def _refresh(recording: Path, console: Console, live: Live | None, over: threading.Event) -> None:
    before: Snapshot | None = None
    began = time.monotonic()
    while True:
        started = time.monotonic()
        try:
            current = snapshot(recording)
        except GilprobeError:
            # Not yet begun; a script that starts slowly is no error.
            if live is None and started - began > WAITS_FOR_IT_S:
                raise
            current = None
        if current and (before or not current.running):
            screen = render(before or current, current, most_threads=max(4, console.height - MOST_WAITS - 8))
            if live:
                live.update(screen, refresh=True)
            else:
                console.print(screen)
        if current and not current.running:
            return
        before = current or before
        pause_s = LEAST_INTERVAL_S if live else LINES_INTERVAL_S if before and current else LEAST_INTERVAL_S
        if over.wait(max(pause_s, (time.monotonic() - started) / SHARE_OF_ONE_CORE)):
            return


def render(before: Snapshot, current: Snapshot, *, most_threads: int) -> Group:
    """What happened between the two."""
    interval_s = max((current.taken_ns - before.taken_ns) / 1e9, 1e-9)
    changes = []
    for key, thread in current.threads.items():
        if thread.ended and key not in before.threads:
            continue
        was = before.threads.get(key)
        if thread.ended and was and was.ended:
            continue
        changes.append(_Change(thread, was, interval_s))
    alive = sum(not thread.ended for thread in current.threads.values())
    title = Text(
        f"gilprobe  {alive} threads of {current.running} running process{'es' if current.running != 1 else ''}"
    )
    changes.sort(key=lambda change: -(change.contended + change.cpu + change.ready))
    parts: list[RenderableType] = [title, _threads(changes[:most_threads])]
    if len(changes) > most_threads:
        parts.append(Text(f"and {len(changes) - most_threads} more threads", style="dim"))
    parts.append(_waits(before, current, interval_s))
    return Group(*parts)


class _Change:
    """Shares of the interval."""

    def __init__(self, thread: LiveThread, was: LiveThread | None, interval_s: float) -> None:
        self.thread = thread
        self.cpu = max(0.0, thread.cpu_s - (was.cpu_s if was else 0.0)) / interval_s
        self.ready = max(0.0, thread.ready_s - (was.ready_s if was else 0.0)) / interval_s
        self.blocked = {
            kind: max(0.0, value - (was.blocked.get(kind, 0.0) if was else 0.0)) / interval_s
            for kind, value in thread.blocked.items()
        }
        self.contended = sum(share for kind, share in self.blocked.items() if kind not in CALM)

    @property
    def main_kind(self) -> str:
        kinds = [kind for kind in self.blocked if kind not in CALM and self.blocked[kind] > LEAST_SHARE]
        return max(kinds, key=lambda kind: self.blocked[kind], default="")


def _threads(changes: list[_Change]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    longest = max((len(plain(change.thread.name, 20)) for change in changes), default=0)
    # Where room is short, `now` gives way.
    table.add_column("thread", no_wrap=True, min_width=max(6, longest), max_width=20)
    for name in ("CPU", "ready", "waits"):
        table.add_column(name, justify="right", no_wrap=True, min_width=5)
    table.add_column("most for", no_wrap=True, min_width=8)
    table.add_column("now", no_wrap=True, overflow="ellipsis")
    for change in changes:
        shares = [f"{min(share, 1.0):.0%}" for share in (change.cpu, change.ready, change.contended)]
        now, contended = _now(change.thread)
        table.add_row(
            plain(change.thread.name, 20), *shares, change.main_kind, Text(now, style="red" if contended else "")
        )
    return table


def _now(thread: LiveThread) -> tuple[str, bool]:
    wait = thread.now
    if thread.ended:
        return "ended", False
    if wait is None:
        return "runs", False
    where = f" at {place(own_frame(wait.stack))}" if wait.stack else ""
    what = "sleeps or does I/O" if wait.kind == SLEEP_IO else f"{wait.kind}: {plain(wait.name, 40)}"
    return f"{seconds(wait.waited_s)} {what}{where}", wait.kind not in CALM


def _waits(before: Snapshot, current: Snapshot, interval_s: float) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("wait", no_wrap=True)
    table.add_column("a second", justify="right", no_wrap=True)
    table.add_column("threads", justify="right", no_wrap=True)
    table.add_column("for", no_wrap=True, overflow="ellipsis")
    rows = []
    for key, wait in current.waits.items():
        was = before.waits.get(key)
        count = wait.count - (was.count if was else 0)
        waiting = (wait.total_s - (was.total_s if was else 0.0)) / interval_s
        if count > 0:
            rows.append((waiting, count / interval_s, wait))
    rows.sort(key=lambda row: -row[0])
    for waiting, rate, wait in rows[:MOST_WAITS]:
        table.add_row(wait.kind, f"{rate:.0f}", f"{waiting:.2f}", f"{plain(wait.name, 40)} at {place(wait.site)}")
    return table
