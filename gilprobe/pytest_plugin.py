"""pytest: a failing schedule is shown as its story."""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Any


class _Explore:
    """Puts the story where pytest prints the traceback."""

    # A hook wrapper of the old kind: it serves pytest 7 and later.
    def pytest_runtest_makereport(self, item: Any, call: Any) -> Generator[None, Any, None]:
        outcome = yield
        module = sys.modules.get("gilprobe.explore.result")
        if module is None or call.excinfo is None or not isinstance(call.excinfo.value, module.ExploreFailure):
            return
        result = call.excinfo.value.result
        lines = [result.story or str(result)]
        if result.replay_path:
            lines.append(f"replay it: gilprobe explore --replay {result.replay_path}")
        outcome.get_result().longrepr = "\n".join(lines)


def pytest_configure(config: Any) -> None:
    import pytest

    _Explore.pytest_runtest_makereport = pytest.hookimpl(hookwrapper=True)(_Explore.pytest_runtest_makereport)  # type: ignore[method-assign]
    config.pluginmanager.register(_Explore(), "gilprobe-explore")
