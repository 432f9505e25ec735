"""One browser for all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reports.browser import Browser, browser


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened
