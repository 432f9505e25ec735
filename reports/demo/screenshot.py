"""python -m reports.demo.screenshot [PAGE.html]: the README's pictures and texts, from the demo recorded now on both
builds, with how busy the machine was; or only the pictures, from a page that is there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from reports.browser import Browser, browser

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build"
README = ROOT / "README.md"
DEMO = re.compile(r"(?<=<!-- demo -->\n).*?(?=<!-- /demo -->)", re.DOTALL)
LAST_LINE = re.compile(r"^whole report:.*(?:\n.+)*\n?", re.MULTILINE)  # it names a folder of this machine


def main() -> None:
    if len(sys.argv) > 1:
        pictures(Path(sys.argv[1]))
        return
    BUILD.mkdir(exist_ok=True)
    told = [record(name) for name in (".venv", ".venv-t") if (ROOT / name / "bin/python").exists()]
    README.write_text(DEMO.sub(lambda _: "\n".join(told), README.read_text(encoding="utf-8")), encoding="utf-8")
    pictures(BUILD / "readme.venv.html")


def record(name: str) -> str:
    """The demo on the interpreter of a virtual environment, as the README shows it."""
    python, place = f"{name}/bin/python", f"build/readme{name}"
    load = os.getloadavg()[0]
    options = ["--force", "--events", "-o", f"{place}.gilprobe", "--html", f"{place}.html", "--python", python]
    done = subprocess.run(
        [".venv/bin/gilprobe", "profile", *options, "reports/demo/thumbnails.py"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
    )  # fmt: skip
    version = subprocess.run([python, "-VV"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    title = version.partition("(")[0].strip().removesuffix(" build") + (" build" if "build" in version[:60] else "")
    text = LAST_LINE.sub("", done.stdout).strip()
    cores = len(os.sched_getaffinity(0))
    machine = f"{cores} cores, load average {load:.1f} before it began"
    return f"**{title}**, {machine}\n\n```text\n{text}\n```\n"


def pictures(page: Path) -> None:
    with browser() as opened:
        opened.open(page, width=1280)
        opened.resize(1280, 860)
        opened.screenshot(HERE / "report.png")
        opened.run("location.hash = '#threads'")
        opened.wait("document.querySelector('.timeline canvas')?.clientHeight > 50")
        # One whose releaser was seen, and no folders of the machine it ran on.
        seen = "[...document.querySelectorAll('#threads tbody tr[data-at]')].find((row) => row.lastChild.textContent)"
        opened.run(f"{seen}.click()")
        opened.frames(4)
        without_folders(opened)
        opened.screenshot(HERE / "timeline.png")


def without_folders(opened: Browser) -> None:
    places = "document.querySelectorAll('.stack small')"
    opened.run(f"{places}.forEach((place) => {{ place.textContent = place.textContent.split('/').pop(); }})")


if __name__ == "__main__":
    main()
