"""watched_python: 3.11, 3.13 and 3.13t, between which locks, joins and imports work differently."""

from __future__ import annotations

import pytest
from pythons import MISSING, pythons

WATCHED = {(11, False), (13, False), (13, True)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "watched_python" not in metafunc.fixturenames:
        return
    found = [python for python in pythons() if (python.minor, python.free_threaded) in WATCHED]
    values: list[object] = [*found]
    if not any(python.free_threaded for python in found):
        why = MISSING.read_text() if MISSING.exists() else "none was found: run make setup"
        values.append(pytest.param(None, marks=pytest.mark.skip(reason=f"NO FREE-THREADED PYTHON: {why}")))
    metafunc.parametrize("watched_python", values, ids=str)
