"""python -m reports.overhead.short_threads [--pairs N] [--python PATH] [--alone].

A thread's creation and join, recorded and not, wall and CPU of the loop alone, on one core and on two. Prints only.
--alone: by the real-time scheduler (SCHED_FIFO, which takes the right to), so that no other program runs meanwhile.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from gilprobe.launch.target import Options, environment
from reports.environment import interpreters
from reports.statistics import ratio_of

CODE = """
import threading, time
wall, cpu = time.perf_counter(), time.process_time()
for _ in range(1000):
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def run(python: str, cores: set[int], alone: bool, folder: Path | None) -> tuple[float, float]:
    """(wall, CPU) in seconds."""
    variables = environment(folder, Options(rate_hz=100)) if folder else dict(os.environ)
    done = subprocess.run(
        [python, "-c", CODE], env=variables, capture_output=True, text=True, check=True,
        preexec_fn=partial(_schedule, cores, alone),
    )  # fmt: skip
    wall_s, cpu_s = map(float, done.stdout.split()[-2:])
    return wall_s, cpu_s


def _schedule(cores: set[int], alone: bool) -> None:
    os.sched_setaffinity(0, cores)
    if alone:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def compare(python: str, cores: set[int], alone: bool, pairs: int) -> str:
    recorded, plain, control = [], [], []
    for number in range(pairs):
        with tempfile.TemporaryDirectory() as name:
            folders = [(recorded, Path(name)), (plain, None), (control, None)]
            for values, folder in folders[:: -1 if number % 2 else 1]:
                values.append(run(python, cores, alone, folder))
    text = []
    for at, what in enumerate(("wall", "CPU")):
        base = [value[at] for value in plain]
        for label, values in ((what, recorded), ("control", control)):
            ratio = ratio_of([value[at] for value in values], base)
            text.append(f"{label} {ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})")
    return ", ".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=101)
    parser.add_argument("--python")
    parser.add_argument("--alone", action="store_true")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    for item in interpreters():
        if arguments.python and Path(arguments.python).resolve() != Path(item["executable"]).resolve():
            continue
        for count in (1, 2):
            shown = compare(item["executable"], set(cores[:count]), arguments.alone, arguments.pairs)
            print(f"{item['label']:8} {count} core(s): {shown}", flush=True)


if __name__ == "__main__":
    main()
