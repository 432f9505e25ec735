"""pytest: --gilprobe records the run, marked tests are held to limits, a failing schedule is shown as its story."""

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


def pytest_addoption(parser: Any) -> None:
    group = parser.getgroup("gilprobe")
    group.addoption("--gilprobe", action="store_true", help="Record the test run: every wait of every thread.")
    group.addoption("--gilprobe-output", metavar="FOLDER", help="Where to [pytest.DATE-PID.gilprobe].")
    group.addoption("--gilprobe-force", action="store_true", help="Overwrite an existing recording.")


def pytest_configure(config: Any) -> None:
    import pytest

    from gilprobe.testing.recording import MARKERS, Contention

    _Explore.pytest_runtest_makereport = pytest.hookimpl(hookwrapper=True)(_Explore.pytest_runtest_makereport)  # type: ignore[method-assign]
    for name in ("pytest_runtest_call", "pytest_runtest_makereport"):
        setattr(Contention, name, pytest.hookimpl(hookwrapper=True)(getattr(Contention, name)))
    Contention.pytest_configure_node = pytest.hookimpl(optionalhook=True)(Contention.pytest_configure_node)  # type: ignore[method-assign]
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    config.pluginmanager.register(_Explore(), "gilprobe-explore")
    config.pluginmanager.register(Contention(config), "gilprobe-contention")
