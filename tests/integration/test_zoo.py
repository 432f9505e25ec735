"""Each zoo program measures its own truth; the profile must agree, and its idle twins must show no contention."""

from __future__ import annotations

import pytest
from pythons import Python

from reports.zoo.record import Recorded, record

# The programs run next to other tests on shared cores: the bars themselves are measured by make accuracy.
RELATIVE, ABSOLUTE_S = 0.05, 0.01
NO_CONTENTION_SHARE = 0.02


def agree(recorded: Recorded, kind: str) -> bool:
    truth = recorded.truth["seconds"][kind]
    return abs(recorded.stopwatch_s(kind) - truth) <= max(RELATIVE * truth, ABSOLUTE_S)


@pytest.mark.parametrize("case", ["lock", "rlock", "releasers", "logging_handler", "imports"])
def test_waits_for_a_lock_are_as_long_as_the_script_measured(any_python: Python, case: str) -> None:
    recorded = record(any_python.executable, "locks.py", case)
    kind = "import" if case == "imports" else "lock"
    assert recorded.truth["seconds"][kind] > 0.004  # on a loaded machine the threads may hardly meet
    assert agree(recorded, kind), (recorded.truth, recorded.total_s(kind))


def test_waits_are_blamed_on_the_function_that_released_the_lock(any_python: Python) -> None:
    recorded = record(any_python.executable, "locks.py", "releasers")
    counted: dict[str, int] = {}
    spun = 0
    for wait in recorded.profile.waits:
        if wait.kind == "lock":
            spun += wait.count - sum(releaser.count for releaser in wait.releasers)
            for releaser in wait.releasers:
                function = releaser.stack[0].function.rpartition(".")[2]
                counted[function] = counted.get(function, 0) + releaser.count
    waited, releases = recorded.truth["waited"], recorded.truth["releases"]
    assert set(counted) == set(releases)
    # A waiter that comes too late, on a busy machine, finds the lock free: that release ended no wait.
    assert all(counted[name] <= releases[name] for name in releases), (counted, releases)
    # One that still spun when it got the lock, without a core for a while, was not let go by anybody.
    missing = sum(max(0, waited[name] - counted[name]) for name in releases)
    assert missing <= min(spun, 10), (counted, waited, spun)


@pytest.mark.parametrize("case", ["lock_local", "rlock_local", "logging_local", "imports_local"])
def test_threads_with_their_own_locks_do_not_contend(any_python: Python, case: str) -> None:
    recorded = record(any_python.executable, "locks.py", case)
    contended_s = recorded.total_s("lock") + recorded.total_s("import")
    assert contended_s < NO_CONTENTION_SHARE * recorded.thread_seconds()


@pytest.mark.parametrize(
    "case",
    [
        "condition",
        "event",
        "semaphore",
        "barrier",
        "queue_get",
        "simple_queue",
        "queue_put",
        "join",
        "executor",
        "event_loop",
        "processes",
        "sleep",
        "pipe",
        "sockets",
        "polling",
    ],
)
def test_waiting_for_work_is_idle_and_never_contention(any_python: Python, case: str) -> None:
    recorded = record(any_python.executable, "idle.py", case)
    # On a busy machine a thread may lose its core while it has the GIL, or a queue's mutex with which it has just woken
    # another: that one then does wait for it, as long as it is ready without a core.
    contending = [wait for wait in recorded.profile.waits if not wait.idle]
    contended_s = sum(wait.contended_s for wait in contending if wait.kind != "gil")
    ready_s = sum(thread.runnable_s for thread in recorded.profile.threads)
    assert contended_s < NO_CONTENTION_SHARE * recorded.thread_seconds() + ready_s, contending
    assert recorded.contention_s() < 0.1 * recorded.thread_seconds() + ready_s, contending
    for kind in ("condition", "queue", "join"):
        if kind in recorded.truth["seconds"]:
            assert agree(recorded, kind), (kind, recorded.truth, recorded.total_s(kind))


def test_the_mutex_of_a_busy_queue_is_a_lock_and_no_waiting_for_work(any_python: Python) -> None:
    recorded = record(any_python.executable, "locks.py", "queue_mutex", 4, 0, 400)
    assert recorded.total_s("queue") == 0
    assert recorded.total_s("lock") > 0 or not any_python.free_threaded


@pytest.mark.parametrize("case", ["sleep", "pipe", "sockets", "polling"])
def test_sleep_and_io_last_as_long_as_the_script_measured(any_python: Python, case: str) -> None:
    recorded = record(any_python.executable, "idle.py", case)
    truth_s = recorded.truth["seconds"]["sleep-io"]
    assert truth_s > 0.2
    # A sleeper that comes back late for want of a core was ready, not asleep: its thread's run delay says how long.
    ready_s = sum(thread.runnable_s for thread in recorded.profile.threads)
    assert abs(recorded.sleep_io_s() - truth_s) <= RELATIVE * truth_s + ABSOLUTE_S + ready_s


@pytest.mark.parametrize("case", ["busy", "half_busy", "native"])
def test_the_gil_is_held_for_the_threads_own_cpu_and_run_delay(gil_python: Python, case: str) -> None:
    recorded = record(gil_python.executable, "busy.py", "gil_shares", 0.5, case)
    (thread,) = [thread for thread in recorded.profile.threads if thread.name == "subject"]
    assert abs(thread.gil_held_s / thread.wall_s - recorded.truth["gil_share"]) < RELATIVE


def test_two_spinning_threads_wait_for_the_gil_half_of_their_time(gil_python: Python) -> None:
    recorded = record(gil_python.executable, "busy.py", "gil", 0.5)
    spinning = [thread for thread in recorded.profile.threads if thread.name != "MainThread"]
    assert len(spinning) == 2
    for thread in spinning:
        had_a_core_s = thread.wall_s - thread.runnable_s
        assert 0.2 < thread.wait_s["gil"] / had_a_core_s < 0.8
        assert 0.2 < thread.gil_held_s / thread.wall_s < 0.8


def test_code_that_releases_the_gil_neither_holds_nor_waits_for_it(any_python: Python) -> None:
    recorded = record(any_python.executable, "busy.py", "native_code", 0.5)
    assert recorded.total_s("gil") < 0.15
    assert all(t.gil_held_s < 0.2 * t.wall_s for t in recorded.profile.threads if t.name != "MainThread")


@pytest.mark.parametrize("case", ["list_append", "dict_set", "collect"])
def test_contention_inside_free_threaded_objects_has_its_kind_and_type(free_threaded_python: Python, case: str) -> None:
    recorded = record(free_threaded_python.executable, "busy.py", case, 0.5)
    waits = [wait for wait in recorded.profile.waits if not wait.idle]
    assert waits[0].kind == recorded.truth["contention"]
    assert waits[0].object_type == recorded.truth.get("object_type", "")
    assert sum(wait.total_s for wait in waits) > 0.1


@pytest.mark.parametrize("case", ["naps", "turns"])
def test_threads_that_switch_often_with_no_core_free_are_accounted_for(any_python: Python, case: str) -> None:
    threads = record(any_python.executable, "busy.py", case).profile.threads
    # Without the looks at the kernel's run delay it is 10 to 40 %.
    assert sum(thread.unaccounted_s for thread in threads) < 0.06 * sum(thread.wall_s for thread in threads)


@pytest.mark.parametrize("case", ["list_append_local", "dict_set_local"])
def test_threads_with_their_own_objects_do_not_contend(free_threaded_python: Python, case: str) -> None:
    recorded = record(free_threaded_python.executable, "busy.py", case, 0.5)
    assert recorded.contention_s() < NO_CONTENTION_SHARE * recorded.thread_seconds()


def test_threads_with_their_own_mutexes_of_c_code_do_not_contend(any_python: Python) -> None:
    recorded = record(any_python.executable, "native.py", "mutex_local")
    assert recorded.total_s("native") < NO_CONTENTION_SHARE * recorded.thread_seconds()


@pytest.mark.parametrize("case", ["mutex", "condition"])
def test_mutexes_of_c_code_are_native_and_its_conditions_idle(any_python: Python, case: str) -> None:
    recorded = record(any_python.executable, "native.py", case)
    if case == "condition":
        assert agree(recorded, "condition")
        assert recorded.contention_s() < 0.01
    else:
        truth_s = recorded.truth["seconds"]["native"]
        assert truth_s > 0.004
        assert recorded.total_s("native") == pytest.approx(truth_s, rel=RELATIVE, abs=ABSOLUTE_S)
        assert any("libzoo.so" in wait.name for wait in recorded.profile.waits), [
            w.name for w in recorded.profile.waits
        ]


HOT = ["list_element", "attribute", "tuple_element", "dict_value", "closure_cell", "module_global", "bound_method"]


@pytest.mark.parametrize("case", HOT)
def test_the_object_two_threads_fight_over_is_named_with_its_line(free_threaded_python: Python, case: str) -> None:
    recorded = record(free_threaded_python.executable, "hot.py", case, 2, 1, rate_hz=500)
    hottest = recorded.profile.hot_objects[:2]
    if case == "module_global" and free_threaded_python.minor >= 15:
        # It defers the counts of globals that other threads read (Python/specialize.c): nothing to fight over.
        assert not hottest
        return
    assert any(hot.object_type in recorded.truth["types"] for hot in hottest), hottest
    assert hottest[0].site[0].function == recorded.truth["line_function"]
    names = recorded.truth["names"]
    assert all(hot.name == names[hot.object_type] for hot in hottest if hot.object_type in names), hottest


@pytest.mark.parametrize("case", HOT)
def test_thread_local_twins_have_no_hot_object(free_threaded_python: Python, case: str) -> None:
    recorded = record(free_threaded_python.executable, "hot.py", f"{case}_local", 2, 0.6, rate_hz=500)
    assert [hot for hot in recorded.profile.hot_objects if hot.share > 0.01] == []
