"""What an exploration says, and the errors it raises."""

from __future__ import annotations

from dataclasses import dataclass

from gilprobe.errors import GilprobeError

FAILED = "FAILED"
EXHAUSTED = "EXHAUSTED"
NOT_FOUND = "NOT_FOUND"
UNCONTROLLED = "UNCONTROLLED"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the code under test; equal to nothing but itself written the same way."""

    file: str
    line: int
    function: str = ""
    source: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" + (f" in {self.function}" if self.function else "")


@dataclass(frozen=True)
class Result:
    """The end of an exploration.

    verdict: FAILED; EXHAUSTED: every schedule with at most `bound` preemptions at modelled points was run, C calls
    taken as atomic; NOT_FOUND: the budget ended first (`bound`: what was exhausted by then, or None); UNCONTROLLED: a
    blocking call that is not modelled, at `uncontrolled`. cpu_s: CPU seconds of the process. preemptions: how
    many the failing schedule has. operations: per thread.
    """

    verdict: str
    oracle: str | None = None
    bound: int | None = None
    schedules: int = 0
    cpu_s: float = 0.0
    seed: int = 0
    operations: tuple[tuple[str, ...], ...] = ()
    preemptions: int | None = None
    racing_pair: tuple[Place, Place] | None = None
    uncontrolled: Place | None = None
    story: str = ""
    replay_path: str | None = None
    error: BaseException | None = None

    @property
    def failed(self) -> bool:
        return self.verdict == FAILED

    def __str__(self) -> str:
        bound = f"({self.bound})" if self.verdict == EXHAUSTED else ""
        return f"{self.verdict}{bound}" + (f": {self.oracle}" if self.oracle else "")


class ExploreFailure(AssertionError):
    """A test under `interleave` fails in some schedule; `result` says in which."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.story or str(result))
        self.result = result


class ReplayMismatch(GilprobeError):
    """The code no longer fits the replay file."""

    exit_status = 2


class Nondeterministic(GilprobeError):
    """The code under test does different things in the same schedule."""

    exit_status = 2
