"""Reports of real recordings in a real browser: opened, walked through, and found silent."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from pythons import Python

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment
from gilprobe.model import Profile
from gilprobe.render.html import Html
from reports.browser import Browser

KEYS = ["ArrowDown", "ArrowRight", "+", ".", ".", ",", "Enter", "ArrowUp", "-", "0", "Escape"]


def record(python: Python, folder: Path, program: str) -> Profile:
    script = folder / "program.py"
    script.write_text(program)
    out = folder / "recording"
    out.mkdir()
    variables = os.environ | environment(out, Options(events=True, rate_hz=200))
    subprocess.run([python.executable, str(script)], env=variables, check=True)
    return load(out)


def opened(chromium: Browser, profile: Profile, folder: Path, *, before: Profile | None = None, **how: Any) -> None:
    page = folder / "report.html"
    page.write_text(Html(before).render(profile), encoding="utf-8", errors="replace")
    chromium.complaints.clear()
    chromium.requests.clear()
    chromium.open(page, **how)


def views(chromium: Browser) -> list[str]:
    return list(chromium.run("[...document.querySelectorAll('nav a')].map((link) => link.hash.slice(1))"))


def walk(chromium: Browser) -> None:
    """Through every view by its link, each of whose buttons is pressed."""
    for view in views(chromium):
        chromium.run(f"document.querySelector('nav a[href=\"#{view}\"]').click()")
        chromium.wait(f"!document.getElementById('{view}').hidden")
        shown = chromium.run(f"document.getElementById('{view}').innerText.length")
        assert shown > 30, f"{view} is empty"
        chromium.run(f"document.querySelectorAll('#{view} .drawn button').forEach((button) => button.click())")
        chromium.run(
            f"document.querySelectorAll('#{view} canvas').forEach((canvas) => {{ canvas.focus();"
            f" for (const key of {KEYS})"
            " canvas.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true })) })"
        )
        chromium.run(f"document.querySelectorAll('#{view} .drawn tr[data-at]').forEach((row) => row.click())")
        chromium.run(
            f"document.querySelectorAll('#{view} input').forEach((box) => {{ for (const text of ['lock', '']) {{"
            " box.value = text; box.dispatchEvent(new Event('input', { bubbles: true })) } })"
        )
        chromium.frames()
        assert chromium.run("document.documentElement.scrollWidth <= innerWidth"), f"{view} is wider than its window"


def silent(chromium: Browser) -> None:
    assert chromium.complaints == []
    assert [
        url[:100] for url in chromium.requests if not url.startswith("file:") or not url.split("#")[0].endswith(".html")
    ] == []
