"""The interpreters that tests ask for by a fixture's name.

every_python, every_gil_python: all that were found. any_python, watched_python: one with the GIL and one without;
gil_python and free_threaded_python: one. Which one differs from test to test and stays the same for each, so that
together the tests meet all of them; GILPROBE_LONG=1 runs each on all.
"""

from __future__ import annotations

import os
import signal
import zlib

import pytest
from pythons import MISSING, Python, pythons

# Ignored where the tests run in the background, and inherited by all that they start: they send these.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

# Between those that are watched, locks, joins and imports work differently.
EVERY, WATCHED = range(99), (11, 13)
FIXTURES = {
    "every_python": ((False, True), EVERY),
    "every_gil_python": ((False,), EVERY),
    "every_watched_python": ((False, True), WATCHED),
    "any_python": ((False, True), EVERY),
    "watched_python": ((False, True), WATCHED),
    "gil_python": ((False,), EVERY),
    "free_threaded_python": ((True,), EVERY),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, (builds, minors) in FIXTURES.items():
        if fixture not in metafunc.fixturenames:
            continue
        values: list[object] = []
        for free_threaded in builds:
            found = [python for python in pythons() if python.free_threaded is free_threaded and python.minor in minors]
            if not found:
                why = MISSING.read_text() if MISSING.exists() else "none was found: run make setup"
                build = "FREE-THREADED PYTHON" if free_threaded else f"PYTHON 3.{' OR 3.'.join(map(str, minors))}"
                skip = pytest.mark.skip(reason=f"NO {build}: {why}")
                values.append(pytest.param(None, marks=skip, id="missing"))
            values += found if fixture.startswith("every") else chosen(found, metafunc.function.__name__)
        metafunc.parametrize(fixture, values, ids=str)


def chosen(found: list[Python], test: str) -> list[Python]:
    return found if os.environ.get("GILPROBE_LONG") or not found else [found[zlib.crc32(test.encode()) % len(found)]]
