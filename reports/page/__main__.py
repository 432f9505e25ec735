"""python -m reports.page [--quick]: how long the page takes to make, to open and to zoom, and how large it is.

Writes summary.json and README.md beside this file; --quick uses a tenth of the events and prints only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gilprobe.launch.target import Options, environment
from gilprobe.model import Profile
from gilprobe.render.html import Html
from reports.browser import CHROMIUM, Browser, browser
from reports.demo import pictures
from reports.environment import write_summary
from reports.page import made

HERE = Path(__file__).parent
DEMO = HERE.parent / "demo" / "thumbnails.py"
RUNS = 5
ZOOMS = 30
# In a process of its own: its peak memory is what a user would see.
MAKE = """
import json, resource, sys, time
begun = time.perf_counter()
from gilprobe.analysis import load
from gilprobe.render import write_report
from pathlib import Path
profile = load(sys.argv[1])
analysed = time.perf_counter() - begun
write_report(profile, "html", Path(sys.argv[2]), force=True)
print(json.dumps({"analysis_s": analysed, "total_s": time.perf_counter() - begun,
    "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, "bytes": Path(sys.argv[2]).stat().st_size,
    "events": len(profile.timeline) if profile.timeline else 0}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    count = 1_000_000 if quick else 10_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured = {"demo": of_demo(folder), "events": of_events(folder, count)}
        empty = Html().render(Profile(meta={}, processes=(), threads=(), waits=()))
        measured["empty"] = {"bytes": len(empty.encode())}
        if CHROMIUM:
            measured |= in_browser(folder)
    rows = table(measured, count)
    for row in rows:
        print(" | ".join(row))
    if not CHROMIUM:
        print("NO BROWSER: how the page opens was not measured")
    if not quick:
        write_summary(
            HERE, {"command": "python -m reports.page", "measured": measured}, "The report page: time, memory, size",
            rows, ["what", "bar", "measured", "verdict"],
            f"Medians of {RUNS} runs, of a page made in a new process; in the browser, from the start of navigation to "
            "all views being reachable, and of the last frame of each zoom. The recording with many events is a real "
            "one whose events are repeated, later each time.",
        )  # fmt: skip


def of_demo(folder: Path) -> dict[str, Any]:
    pictures.make()
    recording = folder / "demo"
    recording.mkdir()
    variables = environment(recording, Options(events=True))
    subprocess.run([sys.executable, str(DEMO)], env=variables, check=True, stdout=subprocess.DEVNULL)
    runs = [page_of(recording, folder / "demo.html") for _ in range(RUNS)]
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def of_events(folder: Path, count: int) -> dict[str, Any]:
    recording = folder / "events"
    recording.mkdir()
    made.many_events(recording, count)
    return page_of(recording, folder / "events.html")


def page_of(recording: Path, page: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", MAKE, str(recording), str(page)], capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def in_browser(folder: Path) -> dict[str, Any]:
    rows, intervals = folder / "rows.html", folder / "intervals.html"
    rows.write_text(Html().render(made.many_rows()))
    intervals.write_text(Html().render(made.many_intervals()))
    measured: dict[str, Any] = {}
    with browser() as opened:
        for name, page, view in (
            ("rows", rows, "objects"),
            ("intervals", intervals, "threads"),
            ("made_events", folder / "events.html", "threads"),
        ):
            ready, seen = zip(*(opening(opened, page, view) for _ in range(RUNS)), strict=True)
            measured[name] = {"ready_ms": statistics.median(ready), "view_ms": statistics.median(seen)}
            if view == "threads":
                measured[name]["frames_ms"] = zooming(opened)
            measured[name]["bytes"] = page.stat().st_size
    return measured


def opening(opened: Browser, page: Path, view: str) -> tuple[float, float]:
    """(ms from navigation until the page answers, ms to show the view after that)."""
    opened.open(page, width=1600)
    ready = float(opened.run("document.documentElement.dataset.ready"))
    drawn = (
        "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun))))"
    )
    seen = opened.run(
        f"new Promise((done) => {{ const begun = performance.now(); location.hash = '#{view}'; {drawn}; }})"
    )
    return ready, float(seen)


def zooming(opened: Browser) -> list[float]:
    """ms of drawing each frame, from all in view down to a microsecond and back."""
    frames = []
    for at in range(ZOOMS):
        key = "+" if at < ZOOMS // 2 else "-"
        press = f"new KeyboardEvent('keydown', {{ key: '{key}' }})"
        opened.run(f"document.querySelector('.timeline canvas').dispatchEvent({press})")
        opened.frames()
        frames.append(float(opened.run("document.documentElement.dataset.frame")))
    return frames


def table(measured: dict[str, Any], count: int) -> list[list[str]]:
    def row(what: str, value: float, bar: float, unit: str, digits: int = 2) -> list[str]:
        return [what, f"<= {bar:g} {unit}", f"{value:.{digits}f} {unit}", "met" if value <= bar else "NOT MET"]

    demo, events = measured["demo"], measured["events"]
    rows = [
        row("page of the demo's recording, analysis and all", demo["total_s"], 2, "s"),
        row(f"page of {count:,} events, analysis and all", events["total_s"], 20, "s", 1),
        row(f"peak memory, {count:,} events", events["peak_gb"], 1, "GB"),
        row("page without data", measured["empty"]["bytes"] / 1000, 400, "KB", 0),
        ["page of the demo's recording, size", "-", f"{demo['bytes'] / 1000:.0f} KB", ""],
        [f"page of {count:,} events, size", "-", f"{events['bytes'] / 1e6:.1f} MB", ""],
    ]
    if "rows" in measured:
        opened, many, most = measured["rows"], measured["intervals"], measured["made_events"]
        rows += [
            row("100,000 aggregated rows: page open", opened["ready_ms"] / 1000, 1, "s"),
            row("100,000 aggregated rows: their table shown", opened["view_ms"] / 1000, 1, "s"),
            row("8 threads x 100,000 intervals: interactive", (many["ready_ms"] + many["view_ms"]) / 1000, 2, "s"),
            row("8 threads x 100,000 intervals: slowest zoom frame", max(many["frames_ms"]), 50, "ms", 0),
            row(f"{count:,} events: interactive", (most["ready_ms"] + most["view_ms"]) / 1000, 2, "s"),
            row(f"{count:,} events: slowest zoom frame", max(most["frames_ms"]), 50, "ms", 0),
        ]
    return rows


if __name__ == "__main__":
    main()
