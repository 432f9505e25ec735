"""python -m reports.demo.screenshot PAGE.html: the README's pictures, from a report of the demo made with --events."""

from __future__ import annotations

import sys
from pathlib import Path

from reports.browser import browser

HERE = Path(__file__).parent


def main() -> None:
    with browser() as opened:
        opened.open(Path(sys.argv[1]), width=1280)
        opened.resize(1280, 760)
        opened.screenshot(HERE / "report.png")
        opened.run("location.hash = '#threads'")
        opened.wait("document.querySelector('.timeline canvas')?.clientHeight > 50")
        opened.run("document.querySelector('#threads tbody tr[data-at]').click()")
        opened.frames(4)
        opened.screenshot(HERE / "timeline.png")


if __name__ == "__main__":
    main()
