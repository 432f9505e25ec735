"""Programs that differ in one thing, compared slice by slice.

A set is three processes of one interpreter that do the same work: recorded, not recorded, and once more not recorded
(the control). They are alive at once and one of them works at a time, for some 20 ms, while the others block: what the
machine does to one slice it does to its neighbours too. Each round of three is in an order drawn anew.

A set is one observation, whatever number of slices it has: the median over its rounds. The bounds resample sets, not
slices. All slices of a process share its addresses, and these alone make it some percent faster or slower than the
next; slices resampled as if each were news would give bounds around the luck of a few processes. The spread of the sets
holds both kinds of chance. The processes of a set have the same hash seed, which recording cannot change; each set has
its own.

Threads that hold the GIL in turn are kept on one core, where at most one of them can run anyway. Where they have two,
which thread sits where, and what else runs on the sibling of its core, makes a process up to twice as slow as its
neighbour for a second at a time, recorded or not: no number of slices evens that out.

A cost that comes in fewer than half of the slices is not in their median. So the ratio of the sums over all slices
stands beside it: where that is above the bar for certain, the bar is not met.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gilprobe.launch.target import Options, environment
from reports.statistics import PAIRS, Median, median_of, verdict

WORKLOAD = Path(__file__).with_name("workload.py")
ON, OFF, CONTROL = range(3)
MEASURES = {"CPU": 0, "wall": 1}
ROUNDS, WARM_UP = 10, 2


@dataclass(frozen=True)
class Comparison:
    """added_s: on - off of a slice, seconds. sums: on / off of all slices of a set together."""

    ratio: Median
    control: Median
    sums: Median
    added_s: Median

    def verdict(self, bar: float) -> str:
        found = verdict(self.ratio, self.control, bar)
        return "undecided" if found == "met" and self.sums.low > bar else found


def compare(taken: NDArray[Any]) -> Comparison:
    """taken: seconds by set, process (ON, OFF, CONTROL) and round."""
    on, off, control = taken[:, ON], taken[:, OFF], taken[:, CONTROL]
    return Comparison(
        ratio=median_of(np.median(on / off, axis=1)),
        control=median_of(np.median(control / off, axis=1)),
        sums=median_of(on.sum(axis=1) / off.sum(axis=1)),
        added_s=median_of(np.median(on - off, axis=1)),
    )


def measure(
    python: str,
    case: str,
    options: Options,
    *,
    one_core: bool = False,
    seconds: float = 0.0,
    least: int = PAIRS,
    rounds: int = ROUNDS,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, NDArray[Any]]:
    """For each of MEASURES what `compare` takes. variables: of the environment of all three.

    As many sets as fit into `seconds`, but `least` at least: how long it goes on never depends on what is found.
    """
    sets: list[list[list[tuple[float, float]]]] = []
    end = time.monotonic() + seconds
    with _on_one_core() if one_core else nullcontext():
        while len(sets) < least or time.monotonic() < end:
            sets.append(_one_set(python, case, options, rounds, len(sets), variables))
    taken = np.array(sets)
    return {name: taken[..., at] for name, at in MEASURES.items()}


@contextmanager
def _on_one_core() -> Iterator[None]:
    """Child processes inherit it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:1])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _one_set(
    python: str, case: str, options: Options, rounds: int, number: int, more: Mapping[str, str]
) -> list[list[tuple[float, float]]]:
    command = [python, str(WORKLOAD), case]
    alike = {"PYTHONHASHSEED": str(number + 1), **more}
    order = random.Random(number)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        variables = [environment(folder, options), dict(os.environ), dict(os.environ)]
        workers = [stack.enter_context(Worker(command, each | alike)) for each in variables]
        for _ in range(WARM_UP):
            for worker in workers:
                worker.slice()
        taken: list[list[tuple[float, float]]] = [[], [], []]
        for _ in range(rounds):
            for which in order.sample(range(3), 3):
                taken[which].append(workers[which].slice())
        return taken


class Worker:
    """A process that works a slice when told to, and blocks otherwise."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str]) -> None:
        self._command = command
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=variables, stdin=pipe, stdout=pipe, bufsize=0)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def slice(self) -> tuple[float, float]:
        """Seconds of CPU, of the whole process, and of wall."""
        assert self._process.stdin and self._process.stdout
        with suppress(BrokenPipeError):  # it has ended: what it said, nothing, tells
            self._process.stdin.write(b".")
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(
                f"the work ended early, with status {self._process.wait()}\n"
                f"Run it by hand and type a line: {' '.join(self._command)}"
            )
        cpu_s, wall_s = map(float, line.split())
        return cpu_s, wall_s
