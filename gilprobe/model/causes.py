"""What the time went to, why, and what would make it less."""

from __future__ import annotations

from dataclasses import dataclass, field

from gilprobe.model.words import Frame


@dataclass(frozen=True, slots=True)
class HotObject:
    object_type: str
    name: str
    share: float
    interval: tuple[float, float]
    threads: tuple[str, ...]
    site: tuple[Frame, ...]
    evidence: str
    address: int = 0
    sites: tuple[tuple[Frame, float], ...] = ()
    kind: str = ""  # what its name is bound to: `module global`, `element of ...`


@dataclass(frozen=True, slots=True)
class Loss:
    """One part of the ideal speed-up that was lost, in thread-seconds and as a share of threads x wall."""

    name: str
    seconds: float
    share: float
    evidence: str


@dataclass(frozen=True, slots=True)
class Accounting:
    ideal: float
    actual: float
    losses: tuple[Loss, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    title: str
    share: float
    evidence: str
    sites: tuple[Frame, ...]
    cure: str
    kind: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FrozenObject:
    """predicted: share of CPU (0-1) that freezing it should free. outcome: `frozen`, `its count deferred`, or why
    neither."""

    object_type: str
    name: str
    address: int
    predicted: float
    outcome: str


@dataclass(frozen=True, slots=True)
class ProofRun:
    """One rerun, in the second before the world was stopped and in the one after: work per second of CPU, in
    Proof.measure's units, and cores used. margin: one standard error of `freed`, were the counted things to happen at
    random. rest: CPU from then to the end of the run."""

    work_before: float
    work_after: float
    cores_before: float
    cores_after: float
    margin: float
    stopped_s: float
    rest_cpu_s: float

    @property
    def freed(self) -> float:
        """Share (0-1) of the CPU a unit of work took that it takes no longer."""
        return 1 - self.work_before / self.work_after if self.work_after > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Proof:
    """What freezing the hottest objects of a rerun changed (--prove), beside what their share of CPU predicted.

    predicted, proven, control: share (0-1) of the CPU a unit of work takes. proven is None where the reruns cannot
    tell; `why` then says why. evidence: of `proven`.
    """

    objects: tuple[FrozenObject, ...]
    measure: str
    predicted: float
    proven: float | None
    control: float | None
    evidence: str
    runs: dict[str, ProofRun] = field(default_factory=dict)
    why: str = ""
    rest_cpu_s: tuple[float, float] | None = None  # to the end of the run: frozen, and as the control has it

    @property
    def speedup(self) -> float | None:
        return None if self.proven is None or self.proven >= 1 else 1 / (1 - self.proven)


@dataclass(frozen=True, slots=True)
class WaterfallStep:
    """One part of what lies between the ideal and the actual speed-up, in units of speed-up (one thread = 1)."""

    name: str
    speedup: float
    evidence: str


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Against a recording of the same program with one worker: ideal - the sum of `steps` = actual.

    ideal: the number of workers. actual: work * the baseline's wall time / this run's, where work is what this run did
    in units of the baseline's. steps: kinds of waits, `spin`, `atomic-stall`, `runnable`, `cpu` (beyond the baseline's
    for the same work), `sleep-io`, `idle` (workers with nothing to do: the serial part), `unaccounted` (always there).
    """

    baseline: str
    ideal: float
    actual: float
    steps: tuple[WaterfallStep, ...]
    work: float = 1.0
    baseline_wall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class NotObserved:
    what: str
    why: str
