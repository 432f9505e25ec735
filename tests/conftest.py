"""The interpreters that tests ask for by a fixture's name."""

from __future__ import annotations

import signal

import pytest
from pythons import MISSING, pythons

# Ignored where the tests run in the background, and inherited by all that they start: they send these.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """any_python, gil_python, free_threaded_python: a test runs once on each minor version found."""
    for fixture, wanted in (("any_python", None), ("gil_python", False), ("free_threaded_python", True)):
        if fixture not in metafunc.fixturenames:
            continue
        found = [python for python in pythons() if wanted is None or python.free_threaded is wanted]
        if found:
            metafunc.parametrize(fixture, found, ids=str)
        else:
            why = MISSING.read_text() if MISSING.exists() else "none was found: run make setup"
            skip = pytest.mark.skip(reason=f"NO FREE-THREADED PYTHON: {why}")
            metafunc.parametrize(fixture, [pytest.param(None, marks=skip)], ids=["missing"])
