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
        # One whose releaser was seen, and no folders of the machine it ran on.
        seen = "[...document.querySelectorAll('#threads tbody tr[data-at]')].find((row) => row.lastChild.textContent)"
        opened.run(f"{seen}.click()")
        opened.frames(4)
        places = "document.querySelectorAll('.stack small')"
        opened.run(f"{places}.forEach((place) => {{ place.textContent = place.textContent.split('/').pop(); }})")
        opened.screenshot(HERE / "timeline.png")


if __name__ == "__main__":
    main()
