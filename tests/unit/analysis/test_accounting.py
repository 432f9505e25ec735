"""Every second of a thread in one class, from two sources; what was cut short is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from recordings import SECOND, Written, chunk, code, extent, stack, thread, wait

from gilprobe.analysis import load
from gilprobe.model import Profile
from gilprobe.recording.schema import Op, Subject, WaitFlag

USER = code(1, "/nowhere/program.py", "Cache.get") + stack(1, 1)
LOCK = {"op": Op.SEM, "subject": Subject.SEMAPHORE, "stack_id": 1}


def profile(folder: Path, *records: bytes, **header: int) -> Profile:
    return load(Written([extent(chunk(USER + b"".join(records)))], header=header).into(folder))


def test_the_kernels_and_the_hooks_blocked_time_agree(tmp_path: Path) -> None:
    (only,) = profile(
        tmp_path,
        thread(1, cpu_ns=3 * SECOND, start_cpu_ns=SECOND, run_delay_ns=SECOND, io_cpu_ns=SECOND // 2),
        wait(1, 1, count=4, total_ns=5 * SECOND, wake_ns=SECOND, spin_ns=SECOND // 2, **LOCK),
        wait(2, 1, count=1, total_ns=4 * SECOND, op=Op.POLL),
    ).threads
    assert (only.wall_s, only.cpu_s, only.runnable_s) == (10.0, 2.0, 1.0)
    assert (only.wait_s, only.sleep_io_s, only.spin_s, only.wake_delay_s) == ({"lock": 3.5}, 3.5, 0.5, 1.0)
    assert only.unaccounted_s == pytest.approx(0.0)


@pytest.mark.parametrize(("looked", "wake", "blocked"), [(2, 3.0, 2.0), (-3, 0.0, 5.0), (30, 6.0, 0.0)])
def test_what_looks_at_some_waits_found_counts_for_all_but_never_for_more_than_there_was(
    tmp_path: Path, looked: int, wake: float, blocked: float
) -> None:
    times = {"total_ns": 6 * SECOND, "wake_ns": SECOND, "looked_ns": looked * SECOND, "cpu_ns": SECOND}
    (only,) = profile(tmp_path, thread(1), wait(1, 1, count=9, **times, **LOCK)).threads
    assert (only.wake_delay_s, only.wait_s) == (wake, {"lock": blocked})


def test_what_looks_found_is_freed_of_how_many_waits_they_stood_for_by_chance(tmp_path: Path) -> None:
    looked = {"total_ns": 8 * SECOND, "cpu_ns": SECOND, "looked_ns": SECOND, "lookable": 9, "looked": 3}
    unlooked = {"total_ns": 2 * SECOND, "wake_ns": SECOND, "lookable": 3}
    slept = {"total_ns": 5 * SECOND, "looked_ns": SECOND, "lookable": 2, "looked": 4, "op": Op.SLEEP}
    waits = (wait(1, 1, count=9, **looked, **LOCK), wait(2, 1, count=3, **unlooked, **LOCK), wait(3, 1, **slept))
    (only,) = profile(tmp_path, thread(1), *waits).threads
    assert only.wake_delay_s == pytest.approx(4 * 1 + 1 + 0.5)
    assert (only.wait_s, only.sleep_io_s) == ({"lock": pytest.approx(10 - 4 - 1 - 4)}, pytest.approx(4.5))


@pytest.mark.parametrize(("read", "ready"), [({"run_delay_read_ns": SECOND}, 1.5), ({}, 3.0)])
def test_in_its_waits_a_thread_was_never_longer_ready_than_in_all(
    tmp_path: Path, read: dict[str, int], ready: float
) -> None:
    times = {"total_ns": 4 * SECOND, "wake_ns": SECOND}
    waits = (wait(1, 1, **times, looked_ns=SECOND, **LOCK), wait(2, 1, **times, **LOCK))
    (only,) = profile(tmp_path, thread(1, run_delay_ns=3 * SECOND // 2, **read), *waits).threads
    assert (only.wake_delay_s, only.wait_s) == (ready, {"lock": 8 - ready})


def test_a_wait_nobody_hooked_is_unaccounted_and_in_no_class(tmp_path: Path) -> None:
    (only,) = profile(tmp_path, thread(1, cpu_ns=2 * SECOND), wait(1, 1, count=1, total_ns=5 * SECOND, **LOCK)).threads
    assert only.unaccounted_s == pytest.approx(3.0)


# Two threads with holes of 2 and 1 seconds, and 8 seconds of CPU.
HOLES = (thread(1, cpu_ns=8 * SECOND), thread(2, cpu_ns=0, run_delay_ns=9 * SECOND))


@pytest.mark.parametrize(("taken", "stolen"), [(1.5, (0.5, 0.25)), (60, (2.0, 1.0)), (0, (0.0, 0.0))])
def test_what_the_host_took_is_named_up_to_the_process_s_part_of_it(
    tmp_path: Path, taken: float, stolen: tuple[float, float]
) -> None:
    machine = {"start_busy_ns": 100 * SECOND, "busy_ns": 116 * SECOND}
    machine |= {"start_stolen_ns": 7 * SECOND, "stolen_ns": 7 * SECOND + int(taken * SECOND)}
    made = profile(tmp_path, *HOLES, **machine)
    assert tuple(each.stolen_s for each in made.threads) == pytest.approx(stolen)
    assert sum(each.unaccounted_s for each in made.threads) == pytest.approx(3 - sum(stolen))
    assert ("stolen" in [loss.name for loss in made.accounting.losses]) == (taken > 0)
    assert ("stolen" in [finding.kind for finding in made.findings]) == (sum(stolen) > 1)


def test_a_host_that_took_nothing_the_threads_lack_or_was_not_read_is_not_blamed(tmp_path: Path) -> None:
    whole = thread(1, cpu_ns=10 * SECOND)
    taken = {"start_busy_ns": SECOND, "busy_ns": 11 * SECOND, "stolen_ns": 9 * SECOND}
    for number, (records, machine) in enumerate([((whole,), taken), (HOLES, {**taken, "busy_ns": 0})]):
        (tmp_path / str(number)).mkdir()
        made = profile(tmp_path / str(number), *records, **machine)
        assert not any(each.stolen_s for each in made.threads)


def test_the_wait_that_never_ended_is_reported_open(tmp_path: Path) -> None:
    (only,) = profile(
        tmp_path,
        thread(1, end_ns=0, open_start_ns=4 * SECOND, open_op=Op.SEM, open_subject=Subject.SEMAPHORE, open_stack_id=1),
    ).threads
    assert only.open_wait is not None
    assert (only.open_wait.kind, only.open_wait.waited_s) == ("lock", 7.0)
    assert only.open_wait.stack[0].function == "Cache.get"


def test_the_gil_that_is_held_at_the_end_counts_up_to_the_end(tmp_path: Path) -> None:
    ticks = {"gil_held_ticks": 2 * SECOND, "gil_since_ticks": 9 * SECOND, "gil_holds": 2}
    (only,) = profile(tmp_path, thread(1, **ticks)).threads
    assert only.gil_held_s == pytest.approx(3.0)


def test_what_was_cut_short_is_listed(tmp_path: Path) -> None:
    missing = profile(
        tmp_path,
        thread(1, read_ns=0),
        stack(2, 1, truncated=True),
        wait(1, 1, flags=WaitFlag.OVERFLOW, count=12, total_ns=SECOND, op=Op.SEM),
        lost_records=3,
        lost_errno=28,
    ).not_observed
    whole = "\n".join(f"{item.what}: {item.why}" for item in missing)
    for part in ("12 waits", "1 stacks", "1 threads", "3 records of process 7: could not be written: No space left"):
        assert part in whole


def test_twin_with_nothing_cut_short_lists_none_of_it(tmp_path: Path) -> None:
    whole = " ".join(item.what for item in profile(tmp_path, thread(1)).not_observed)
    assert not any(word in whole for word in ("waits of", "stacks of", "threads of", "records of", "a part of"))


def test_shares_are_of_no_less_time_than_the_kernel_saw_a_thread_run_or_ready(tmp_path: Path) -> None:
    """A sleep whose hook could not tell when it was over holds the run delay after it."""
    found = profile(
        tmp_path,
        thread(1, cpu_ns=SECOND, run_delay_ns=4 * SECOND),
        wait(1, 1, count=9, total_ns=9 * SECOND, op=Op.READ),
    )
    assert found.threads[0].wanted_s == pytest.approx(5.0)
    assert all(finding.share <= 1.0 for finding in found.findings), found.findings


def test_a_recording_without_threads_clears_no_one(tmp_path: Path) -> None:
    found = profile(tmp_path)
    assert not found.threads
    assert "nothing can be said" in found.findings[0].title


def test_a_worker_of_gevents_pool_idles(tmp_path: Path) -> None:
    names = ("acquire_with_timeout", "_Condition.wait", "Queue.get")
    codes = b"".join(code(11 + at, "/site/gevent/_threading.py", name) for at, name in enumerate(names))
    waited = wait(1, 1, count=1, total_ns=5 * SECOND, op=Op.SEM, subject=Subject.SEMAPHORE, stack_id=2)
    (only,) = profile(tmp_path, thread(1), codes + stack(2, 11, 12, 13), waited).threads
    assert (only.wait_s, only.idle_s) == ({}, {"queue": 5.0})
