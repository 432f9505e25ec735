"""How long locks were held: the longest with where it was taken, also among holds too many to time each."""

from __future__ import annotations

import pytest
from pythons import Python
from watchdog_runs import PROGRAMS, marked, run

from gilprobe.model import Hold, Profile

LONG_S, MANY = 0.3, 50_000


def held(python: Python, case: str) -> tuple[Profile, list[Hold]]:
    """The program's own holds, the longest first."""
    outcome = run(python, "holds.py", case)
    assert outcome.status == 0, outcome.stderr
    program = str(PROGRAMS / "holds.py")
    return outcome.profile, [hold for hold in outcome.profile.holds if hold.taken[0].file == program]


def line_of(case: str, thread: str) -> int:
    (line,) = marked("holds.py", case)[thread]["holds"]
    return line


def test_one_long_hold_is_found_among_more_short_ones_than_are_timed(watched_python: Python) -> None:
    profile, (long, *others) = held(watched_python, "long_among_short")
    assert long.taken[0].line == line_of("long_among_short", "holder") == long.released[0].line
    assert long.max_s >= LONG_S / 3
    assert set(long.threads) == {"holder"}
    short = max(others, key=lambda hold: hold.count)
    assert short.timed < short.count and short.evidence == "estimated"
    assert abs(short.count - MANY) < 0.02 * MANY
    assert sum(short.histogram) == short.count
    (wait,) = (wait for wait in profile.waits if wait.kind == "lock" and wait.max_s > LONG_S / 2)
    assert wait.holders[0].thread == "holder" and wait.holders[0].stack[0].line == long.taken[0].line
    assert wait.holders[0].max_s == long.max_s


def test_no_hold_is_long_where_it_waits_outside(watched_python: Python) -> None:
    _, holds = held(watched_python, "only_short")
    assert holds and all(hold.max_s < LONG_S / 2 for hold in holds)


def test_a_reentrant_lock_is_held_to_its_last_release(watched_python: Python) -> None:
    _, (hold,) = held(watched_python, "reentrant")
    assert (hold.kind, hold.count, hold.timed) == ("RLock", 1, 1)
    assert hold.taken[0].line == line_of("reentrant", "outer") and hold.released[0].line > hold.taken[0].line
    assert hold.max_s >= LONG_S and not hold.at_least


def test_what_waits_for_a_condition_does_not_hold_its_lock(watched_python: Python) -> None:
    profile, _ = held(watched_python, "condition")
    assert profile.holds and all(hold.max_s < LONG_S / 2 for hold in profile.holds)


def test_a_lock_that_was_never_released_is_told_as_held(watched_python: Python) -> None:
    _, (hold,) = held(watched_python, "still_held")
    assert (hold.open, hold.released) == (1, ())
    assert hold.taken[0].line == line_of("still_held", "keeps") and hold.max_s >= LONG_S


@pytest.mark.parametrize("case", ["long_among_short"])
def test_holds_without_the_watchdog_are_not_observed(any_python: Python, case: str) -> None:
    profile = run(any_python, "holds.py", case, limit_s=None).profile
    assert not profile.holds and "holds" in {item.what for item in profile.not_observed}
