"""The report page: one file, no network, the answer first."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from gilprobe.model import Profile, Thread, own_frame
from gilprobe.render import wording

WEB = Path(__file__).parent / "web"
MOST_WAITS = 500
MOST_TEXT = 2000
NO_META = {"recording": "", "python": "?", "wall_s": 0.0, "cpu_s": 0.0, "rate_hz": 0, "samples": 0, "sampler": "off"}
CLASSES = (
    ("cpu", "useful CPU"),
    ("stall", "atomic stall"),
    ("spin", "spinning"),
    ("gil", "GIL"),
    ("lock", "lock"),
    ("object", "object"),
    ("stop-the-world", "stop-the-world"),
    ("import", "import"),
    ("native", "native"),
    ("runnable", "ready, no core"),
    ("idle", "idle"),
    ("sleep", "sleep and I/O"),
)


class Html:
    suffix = ".html"

    def render(self, profile: Profile) -> str:
        # autoescape: names of threads, files and locks come from the program that was recorded.
        environment = Environment(
            loader=FileSystemLoader(WEB), autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_printable
        )
        environment.filters.update(
            seconds=wording.seconds, percent=wording.percent, place=wording.place, plain=wording.plain
        )
        return environment.get_template("report.html").render(
            profile=profile,
            meta=NO_META | profile.meta,
            answer=wording.answer(profile),
            classes=CLASSES,
            bars=[(thread, _bar(thread)) for thread in _by_work(profile.threads)],
            waits=[(wait, own_frame(wait.waiter), wording.who_released(wait)) for wait in profile.waits[:MOST_WAITS]],
            hidden_waits=max(0, len(profile.waits) - MOST_WAITS),
            matrix=_matrix(profile),
            losses=profile.accounting.losses,
            style=(WEB / "report.css").read_text(encoding="utf-8"),
            script=(WEB / "report.js").read_text(encoding="utf-8"),
        )


def _printable(value: Any) -> Any:
    """Every text but our own markup loses control characters and direction marks, and ends somewhere."""
    return wording.plain(value, MOST_TEXT) if isinstance(value, str) and not isinstance(value, Markup) else value


def _by_work(threads: tuple[Thread, ...]) -> list[Thread]:
    return sorted(threads, key=lambda thread: -(thread.cpu_s + sum(thread.wait_s.values())))


def _bar(thread: Thread) -> list[tuple[str, str, float, float]]:
    """(class, label, seconds, share of the thread's wall time) for each part of a thread's life that can be seen."""
    values: dict[str, float] = {
        "cpu": max(0.0, thread.cpu_s - thread.spin_s - thread.atomic_stall_s),
        "stall": thread.atomic_stall_s,
        "spin": thread.spin_s,
        "runnable": thread.runnable_s,
        "idle": sum(thread.idle_s.values()),
        "sleep": thread.sleep_io_s,
        **{str(kind): value for kind, value in thread.wait_s.items()},
    }
    whole = max(thread.wall_s, sum(values.values()), 1e-9)
    return [(name, label, values[name], values[name] / whole) for name, label in CLASSES if values.get(name, 0) > 0]


def _matrix(profile: Profile) -> dict[str, Any]:
    """Seconds each waiting thread spent until each releasing thread ended its wait; the ten busiest of either."""
    cells: dict[tuple[str, str], float] = defaultdict(float)
    for wait in profile.waits:
        if wait.idle:
            continue
        for waiter, releaser, total_s in wait.pairs:
            cells[waiter, releaser or "?"] += total_s
    waiters: dict[str, float] = defaultdict(float)
    releasers: dict[str, float] = defaultdict(float)
    for (waiter, releasing), value in cells.items():
        waiters[waiter] += value
        releasers[releasing] += value
    rows = sorted(waiters, key=lambda name: -waiters[name])[:10]
    columns = sorted(releasers, key=lambda name: -releasers[name])[:10]
    most = max(cells.values(), default=0.0)
    return {
        "columns": columns,
        "rows": [
            (
                row,
                [
                    (cells.get((row, column), 0.0), cells.get((row, column), 0.0) / most if most else 0.0)
                    for column in columns
                ],
            )
            for row in rows
        ],
    }
