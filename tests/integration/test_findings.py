"""Each kind of finding has a planted program that must have it, with a cure that fits, and a twin that must not."""

from __future__ import annotations

import pytest
from pythons import Python

from reports.zoo.record import Recorded, record

EVERYWHERE = [
    ("locks.py", "lock", "lock_local", (2, 5, 10), "lock", "move work out of it"),
    ("locks.py", "logging_handler", "logging_local", (2, 5, 10), "lock", "QueueHandler"),
    ("locks.py", "imports", "imports_local", (), "import", "before the threads start"),
    ("native.py", "mutex", "mutex_local", (), "native", "instance of its own"),
    ("permits.py", "limit", "limit_local", (), "permit", "give a permit back earlier"),
    ("permits.py", "pool", "pool_local", (), "permit", "raise the limit"),
    ("permits.py", "pool", "ring", (), "permit", "raise the limit"),
    ("permits.py", "limit", "turns", (), "permit", "start fewer threads"),
    ("permits.py", "limit", "lambdas", (), "permit", "start fewer threads"),
]
WITH_GIL = [("busy.py", "gil", "native_code", (0.7,), "gil", "code that releases the GIL")]
FREE_THREADED = [
    ("locks.py", "queue_mutex", "queue_local", (2, 5, 1000), "lock", "lists of items"),
    ("busy.py", "list_append", "list_append_local", (0.7,), "object", "extend"),
    ("busy.py", "dict_set", "dict_set_local", (0.7,), "object", "split it by key"),
    ("busy.py", "collect", "collect_never", (0.7,), "stop-the-world", "gc.freeze"),
    ("hot.py", "tuple_element", "tuple_element_local", (2, 1), "atomic-stall", "copy.deepcopy"),
    ("hot.py", "closure_cell", "closure_cell_local", (2, 1), "atomic-stall", "copy.deepcopy"),
    ("hot.py", "bound_method", "bound_method_local", (2, 1), "atomic-stall", "bind the method itself"),
]
# Threads contend only while they run at once: on a busy machine some runs have no contention.
TRIES, MOST_READY_SHARE = 3, 0.3
Case = tuple[str, str, str, tuple[float, ...], str, str]


def cures(recorded: Recorded, kind: str) -> list[str]:
    return [finding.cure for finding in recorded.profile.findings if finding.kind == kind]


def check(python: Python, case: Case) -> None:
    program, planted, twin, arguments, kind, words = case
    rate_hz = 500 if program == "hot.py" else 0
    for _ in range(TRIES):
        recorded = record(python.executable, program, planted, *arguments, rate_hz=rate_hz)
        found = cures(recorded, kind)
        if found:
            break
    if not found and recorded.ready_share() > MOST_READY_SHARE:
        pytest.skip(f"NO SECOND CORE: its threads were ready without one for {recorded.ready_share():.0%} of the time")
    assert any(words in cure for cure in found), recorded.profile.findings
    recorded = record(python.executable, program, twin, *arguments, rate_hz=rate_hz)
    # A thread that has no core just when it holds something still holds it: on a busy machine that is contention.
    allowed = (0.1 if kind == "gil" else 0.0) + 0.2 * recorded.ready_share()
    shares = [finding.share for finding in recorded.profile.findings if finding.kind == kind]
    if max(shares, default=0.0) > allowed and recorded.ready_share() > MOST_READY_SHARE:
        pytest.skip(f"NO SECOND CORE: the twin's threads were ready without one for {recorded.ready_share():.0%}")
    assert all(share <= allowed for share in shares), recorded.profile.findings


@pytest.mark.parametrize("case", EVERYWHERE, ids=lambda case: f"{case[1]}, {case[2]}")
def test_waits_have_their_cure_and_their_twins_no_finding(any_python: Python, case: Case) -> None:
    check(any_python, case)


@pytest.mark.parametrize("case", WITH_GIL, ids=lambda case: case[1])
def test_the_gil_has_its_cure_and_its_twin_no_finding(gil_python: Python, case: Case) -> None:
    check(gil_python, case)


@pytest.mark.parametrize("case", FREE_THREADED, ids=lambda case: case[1])
def test_objects_have_their_cure_and_their_twins_no_finding(free_threaded_python: Python, case: Case) -> None:
    check(free_threaded_python, case)


def test_no_contention_is_a_finding_that_says_what_could_have_hidden(free_threaded_python: Python) -> None:
    recorded = record(free_threaded_python.executable, "busy.py", "list_append_local", 0.7, rate_hz=100)
    (none,) = [finding for finding in recorded.profile.findings if finding.kind == "none"]
    assert none.share < 0.05
    for words in ("causes below 1% each", "unaccounted for", "objects below"):
        assert words in none.cure
