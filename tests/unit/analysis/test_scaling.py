"""The waterfall: its steps and the residual sum up to ideal less actual, whatever the recordings hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import SECOND, Written, chunk, code, extent, stack, thread, wait

from gilprobe.analysis import load, with_waterfall
from gilprobe.errors import RecordingError
from gilprobe.model import Process, Profile, Thread, Waterfall
from gilprobe.recording.schema import EndKind, Op, Subject
from gilprobe.render.wording import waterfall_rows

SCRIPT = ("python", "crunch.py", "--workers")
parts = st.floats(0, 5, allow_nan=False)


def process(**fields: object) -> Process:
    known = Process(1, 0, "3.13.5t", True, False, (*SCRIPT, "2"), 10.0, "exit")
    return replace(known, **fields)  # type: ignore[arg-type]


def lived(name: str, start_s: float, wall_s: float, cpu_s: float, pid: int = 1, **fields: object) -> Thread:
    known = Thread(name, 1, pid, wall_s, cpu_s, 0.0, {}, {}, 0.0, 0.0, 0.0, start_s=start_s)
    return replace(known, **fields)  # type: ignore[arg-type]


def profile(wall_s: float, *threads: Thread, **of_process: object) -> Profile:
    return Profile({"recording": "r.gilprobe", "wall_s": wall_s}, (process(**of_process),), threads, ())


def waiting_main(wall_s: float) -> Thread:
    return lived("MainThread", 0, wall_s, 0.1, idle_s={"join": wall_s - 0.1})


def step(waterfall: Waterfall, name: str) -> float:
    return sum(step.speedup for step in waterfall.steps if step.name == name)


ALONE = profile(10.0, waiting_main(10.0), lived("worker", 0, 10.0, 10.0))


def split(here: Profile, baseline: Profile = ALONE, work: float = 1.0) -> Waterfall:
    waterfall = with_waterfall(here, baseline, work=work).waterfall
    assert waterfall is not None
    return waterfall


@settings(deadline=None)
@given(st.lists(st.tuples(*[parts] * 8), min_size=1, max_size=5), st.floats(1, 50), st.floats(0.1, 8))
def test_steps_sum_exactly_to_ideal_less_actual(rows: list[tuple[float, ...]], wall_s: float, work: float) -> None:
    threads = [
        lived(
            f"w{number}", row[0], row[1], row[2] + row[4], runnable_s=row[3], spin_s=row[4] / 2,
            atomic_stall_s=row[4] / 2, wait_s={"lock": row[5], "gil": row[6]}, idle_s={"queue": row[6]},
            sleep_io_s=row[7],
        )
        for number, row in enumerate(rows)
    ]  # fmt: skip
    waterfall = split(profile(wall_s, waiting_main(wall_s), *threads), work=work)
    assert waterfall.actual == pytest.approx(work * 10.0 / wall_s)
    total = sum(step.speedup for step in waterfall.steps)
    assert waterfall.ideal - total == pytest.approx(waterfall.actual, abs=1e-9)
    assert "unaccounted" in [step.name for step in waterfall.steps]


def test_a_perfect_run_loses_nothing() -> None:
    here = profile(5.0, waiting_main(5.0), *(lived(f"w{n}", 0, 5.0, 5.0) for n in range(2)))
    waterfall = split(here)
    assert (waterfall.ideal, waterfall.actual) == (2.0, 2.0)
    assert [s for s in waterfall.steps if abs(s.speedup) > 1e-9] == []


def test_each_loss_is_in_its_own_step() -> None:
    workers = [
        lived(
            f"w{n}", 0.5, 7.5, 6.0, runnable_s=0.25, spin_s=0.5, atomic_stall_s=0.4, wait_s={"lock": 1.0},
            idle_s={"queue": 0.25},
        )
        for n in range(2)
    ]  # fmt: skip
    waterfall = split(profile(8.0, waiting_main(8.0), *workers))
    assert waterfall.ideal - waterfall.actual == pytest.approx(0.75)
    assert step(waterfall, "lock") == pytest.approx(2 / 8)
    assert step(waterfall, "runnable") == pytest.approx(0.5 / 8)
    assert step(waterfall, "spin") == pytest.approx(1 / 8)
    assert step(waterfall, "atomic-stall") == pytest.approx(0.8 / 8)
    # 0.25 s of an empty queue and 0.5 s before it began, each; the main thread's 0.1 s of CPU uses a worker's place.
    assert step(waterfall, "idle") == pytest.approx(1.5 / 8, abs=0.03)
    # 12 s of CPU less spinning and stall, for what took 10.
    assert step(waterfall, "cpu") == pytest.approx((12 - 1.8 - 10) / 8, abs=0.03)
    assert step(waterfall, "unaccounted") == pytest.approx(0.0, abs=1e-9)


def test_what_also_one_worker_loses_costs_no_speed_up() -> None:
    alone = profile(10.0, waiting_main(10.0), lived("worker", 0, 10.0, 4.0, sleep_io_s=6.0))
    here = profile(5.0, waiting_main(5.0), *(lived(f"w{n}", 0, 5.0, 2.0, sleep_io_s=3.0) for n in range(2)))
    assert [s for s in split(here, alone).steps if abs(s.speedup) > 1e-9] == []


def test_a_baseline_that_works_in_its_main_thread_will_do() -> None:
    alone = profile(10.0, lived("MainThread", 0, 10.0, 10.0))
    here = profile(5.0, waiting_main(5.0), *(lived(f"w{n}", 0, 5.0, 5.0) for n in range(2)))
    assert split(here, alone).actual == 2.0


def test_a_main_thread_that_works_with_the_others_is_a_worker() -> None:
    here = profile(5.0, lived("MainThread", 0, 5.0, 5.0), lived("w", 0, 5.0, 5.0))
    assert split(here).ideal == 2.0


def test_workers_that_each_do_a_share_did_more_work() -> None:
    here = profile(10.0, waiting_main(10.0), *(lived(f"w{n}", 0, 10.0, 10.0) for n in range(4)))
    assert split(here, work=4.0).actual == 4.0


def test_the_residual_is_shown_however_small() -> None:
    here = profile(5.0, waiting_main(5.0), *(lived(f"w{n}", 0, 5.0, 5.0) for n in range(2)))
    assert "unaccounted" in [label for label, _ in waterfall_rows(split(here))]


TWO_WORKERS = profile(10.0, waiting_main(10.0), lived("a", 0, 10.0, 10.0), lived("b", 0, 10.0, 10.0))


@pytest.mark.parametrize(
    ("baseline", "why"),
    [
        (replace(ALONE, processes=(process(argv=("python", "other.py")),)), "another program: other.py"),
        (replace(ALONE, processes=(process(python="3.13.5", free_threaded=False),)), "another build: Python 3.13.5,"),
        (replace(ALONE, processes=(process(gil_enabled=True),)), "with the GIL on"),
        (replace(ALONE, processes=(process(end="none"),)), "killed or still runs"),
        (TWO_WORKERS, "has 2 workers"),
    ],
)
def test_what_cannot_be_compared_is_refused_and_named(baseline: Profile, why: str) -> None:
    with pytest.raises(RecordingError, match=why):
        with_waterfall(TWO_WORKERS, baseline)


def test_a_real_recording_has_its_residual_in_the_waterfall(tmp_path: Path) -> None:
    """The wait that nobody hooked: 3 of 10 seconds are neither CPU nor a wait."""
    stacks = code(1, "/nowhere/program.py", "Cache.get") + stack(1, 1)
    lock = {"op": Op.SEM, "subject": Subject.SEMAPHORE, "stack_id": 1}

    def recorded(name: str, *records: bytes) -> Profile:
        (tmp_path / name).mkdir()
        header = {"end_kind": EndKind.EXIT}
        return load(Written([extent(chunk(stacks + b"".join(records)))], header=header).into(tmp_path / name))

    alone = recorded("alone", thread(1, cpu_ns=10 * SECOND))
    here = recorded(
        "here", thread(1, cpu_ns=SECOND // 10, start_ns=SECOND),
        wait(1, 1, count=1, total_ns=10 * SECOND - SECOND // 10, op=Op.JOIN),
        *(thread(n, cpu_ns=2 * SECOND) for n in (2, 3)),
        *(wait(n, n, count=1, total_ns=5 * SECOND, **lock) for n in (2, 3)),
    )  # fmt: skip
    assert step(split(here, alone), "unaccounted") == pytest.approx(0.6, abs=0.02)
