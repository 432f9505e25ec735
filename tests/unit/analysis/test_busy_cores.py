"""Threads that are ready and have no core: whether they crowd each other out, or something else has the cores."""

from __future__ import annotations

import pytest

from gilprobe.analysis.accounting import account
from gilprobe.analysis.advice import findings
from gilprobe.model import Process, Thread


@pytest.mark.parametrize(("cpu_s", "said"), [(0.2, "something else ran"), (1.0, "use fewer")])
def test_who_had_the_cores_is_told_by_what_the_threads_got(cpu_s: float, said: str) -> None:
    threads = [Thread(f"t{at}", at, 1, 2.0, cpu_s, 2.0 - cpu_s, {}, {}, 0.0, 0.0, 0.0) for at in range(4)]
    process = Process(1, 0, "3.13.0", False, True, (), 2.0, "exited")
    found, *_ = findings([process], threads, [], [], account(threads, 2.0))
    assert found.kind == "runnable" and said in found.cure
    assert found.detail == f"all threads together got {4 * cpu_s / 2:.1f} cores"
