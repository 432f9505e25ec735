"""More locks than there is room for: the tables do not grow, and the report says how many were dropped."""

from __future__ import annotations

import re

from pythons import Python
from watchdog_runs import run

ROOM_FOR_HELD, ROOM_FOR_BORN = 48, 1 << 15  # native/watch.h GP_MOST_HELD, native/births.c BIRTH_BITS
ALIVE, HELD = 100_000, 100  # programs/many.py


def test_what_found_no_room_is_counted_in_the_report(watched_python: Python) -> None:
    profile = run(watched_python, "many.py", "alive").profile
    dropped = {
        match[2]: int(match[1])
        for item in profile.not_observed
        if (match := re.fullmatch(r"(\d+) (held locks|places where locks were made) of process \d+", item.what))
    }
    assert HELD - ROOM_FOR_HELD <= dropped["held locks"] <= HELD
    assert ALIVE - ROOM_FOR_BORN <= dropped["places where locks were made"] <= ALIVE + 100


def test_a_million_locks_that_come_and_go_take_no_room_and_none_is_dropped(watched_python: Python) -> None:
    outcome = run(watched_python, "many.py", "short_lived")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert int(outcome.stdout) < 20_000
    assert not any("held locks" in item.what for item in outcome.profile.not_observed)
    (hold,) = (hold for hold in outcome.profile.holds if hold.taken[0].function == "short_lived")
    assert 0.98e6 < hold.count < 1.02e6
