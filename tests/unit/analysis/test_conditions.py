"""A notified waiter first needs the condition's lock again: that part of Condition.wait is contention."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment

ROUNDS, HOLD_S = 10, 0.03
SCRIPT = f"""
import sys, threading, time
def wait(condition, seen):
    with condition:
        for number in range({ROUNDS}):
            condition.wait_for(lambda: seen[0] > number)
            seen.append(number)
def main(condition, seen):
    waiter = threading.Thread(target=wait, args=(condition, seen))
    waiter.start()
    for number in range({ROUNDS}):
        while len(seen) <= number: time.sleep(0.001)
        with condition:
            if sys.argv[1] == "before": time.sleep({HOLD_S})
            seen[0] += 1
            condition.notify()
            if sys.argv[1] == "after": time.sleep({HOLD_S})
    waiter.join()
main(threading.Condition(), [0])
"""


def waits(folder: Path, when: str) -> dict[str, float]:
    subprocess.run([sys.executable, "-c", SCRIPT, when], env=environment(folder, Options(rate_hz=0)), check=True)
    totals: dict[str, float] = {}
    for wait in load(folder).waits:
        if any(frame.function == "wait" for frame in wait.waiter):
            totals[wait.kind] = totals.get(wait.kind, 0.0) + wait.contended_s
    return totals


def test_a_notifier_that_keeps_the_lock_makes_its_waiters_contend(tmp_path: Path) -> None:
    assert waits(tmp_path, "after")["lock"] > 0.8 * ROUNDS * HOLD_S


def test_twin_that_notifies_last_only_idles(tmp_path: Path) -> None:
    totals = waits(tmp_path, "before")
    assert totals["condition"] > 0.8 * ROUNDS * HOLD_S
    assert totals.get("lock", 0.0) < 0.2 * ROUNDS * HOLD_S
