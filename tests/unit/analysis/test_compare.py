"""A difference is called one where chance would not make it, and only between recordings made alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gilprobe.analysis.compare import compare, made_differently
from gilprobe.model import Accounting, Frame, Process, Profile, Thread, Wait


def recorded(wall_s: float = 1.0, lock_s: float = 0.5, name: str = "self._lock in take") -> Profile:
    thread = Thread("w", 1, 1, wall_s, wall_s - lock_s, 0.0, {"lock": lock_s}, {}, 0.0, 0.0, 0.0)
    wait = Wait("lock", "", name, 3, lock_s, lock_s, (), (Frame("take", "/app/a.py", 5),), ())
    return Profile(
        meta={"wall_s": wall_s, "cpu_s": wall_s - lock_s, "python": "3.13.0", "sampler": "x", "rate_hz": 100},
        processes=(Process(1, 0, "3.13.0", False, True, ("python", "/a/run.py", "--size", "3"), wall_s, "exit"),),
        threads=(thread,),
        waits=(wait,),
        accounting=Accounting(1.0, 1.0, ()),
    )


def test_the_interval_holds_the_truth_in_95_of_100_comparisons() -> None:
    rng, truth, trials = np.random.default_rng(1), -0.2, 1500
    held = 0
    for _ in range(trials):
        before = [recorded(wall_s) for wall_s in rng.normal(1.2, 0.05, 4)]
        after = [recorded(wall_s) for wall_s in rng.normal(1.0, 0.15, 6)]  # the sides vary differently
        wall = compare(before, after)[0]
        assert wall.low is not None and wall.high is not None
        held += wall.low <= truth <= wall.high
    assert 0.935 <= held / trials <= 0.985


def test_one_recording_on_a_side_gives_no_interval() -> None:
    for before, after in (([1.0], [2.0]), ([1.0], [2.0, 2.1]), ([1.0, 1.1], [2.0])):
        changes = compare([recorded(wall_s) for wall_s in before], [recorded(wall_s) for wall_s in after])
        assert all(change.low is None and not change.told_apart for change in changes)


def test_a_real_change_is_told_from_one_that_chance_makes() -> None:
    before = [recorded(wall_s, 0.50) for wall_s in (1.00, 1.30, 0.90)]
    after = [recorded(wall_s, 0.20) for wall_s in (1.10, 0.95, 1.25)]
    changes = {change.quantity.name: change for change in compare(before, after)}
    assert changes["waited, all threads"].told_apart and changes["waited, all threads"].change == pytest.approx(-0.3)
    assert not changes["wall time"].told_apart
    assert changes["self._lock in take"].where == Frame("take", "/app/a.py", 5)


def test_a_lock_without_a_name_is_the_same_lock_at_another_address() -> None:
    changes = compare([recorded(name="lock at 0x7f01")], [recorded(name="lock at 0x7e02")])
    assert [change.quantity.name for change in changes if change.quantity.group == "wait"] == ["lock"]


def test_recordings_made_differently_say_in_what() -> None:
    one = recorded()
    assert made_differently([one, recorded(2.0)]) == []
    (process,) = one.processes
    moved = replace(one, processes=(replace(process, argv=("/other/python", "-X", "dev", "/b/run.py", "--size", "3")),))
    assert made_differently([one, moved]) == ["the script run.py --size 3 and -X dev run.py --size 3"]
    checkout = replace(one, processes=(replace(process, argv=("/other/python", "/b/run.py", "--size", "3")),))
    assert made_differently([one, checkout]) == []
    for key, value, said in (
        ("python", "3.13.0t", "Python 3.13.0 and 3.13.0t"), ("sampler", "off", "sampler x and off"),
        ("rate_hz", 0, "sampling rate 100 Hz and 0 Hz"), ("events", True, "events not kept and kept"),
        ("options", "watchdog", "options none and watchdog"),
    ):  # fmt: skip
        assert made_differently([one, replace(one, meta=one.meta | {key: value})]) == [said]
    killed = replace(one, processes=(replace(process, end="none"),))
    assert made_differently([one, one, killed]) == ["the end exit and none"]
