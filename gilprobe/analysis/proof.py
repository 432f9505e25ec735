"""What freezing the hottest objects changed: the reruns of --prove, which lie beside the recording they prove.

Work is counted without the script's help: spans that ended, if it has enough of them; else how often CPython's
allocator (mimalloc, in every free-threaded build) had to look for free blocks, which goes with what a loop allocates;
else I/O calls; else the CPU to the end of the run, which tells only for a script with a fixed amount of work.
Work per second of CPU is compared, not per second: what a stall takes is CPU, and other programs take cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from gilprobe.model import Evidence, Finding, FrozenObject, HotObject, Proof, ProofRun
from gilprobe.recording import Recording, read_folder
from gilprobe.recording.schema import EndKind, FreezeResult

FOLDER, FROZEN, CONTROL = "proof", "frozen", "control"
WINDOW_NS = 2_000_000_000  # the objects were hot in the second before, and nothing but time has passed in another
SETTLE_NS = 50_000_000
LEAST_COUNTS = 40
LEAST_WINDOW_CPU_NS = 100_000_000
REFERENCE_COUNTS = (12, 16)  # ob_ref_local, ob_ref_shared of a free-threaded object; its mutex is at 10
# Threads fight only while they run at once: slices of the two windows with less of that than the best are left out.
LEAST_OF_BEST_CORES = 0.8
BEST_QUANTILE = 0.9
LEAST_MATCHED_NS = 250_000_000
# Of the CPU to the end of the run: less than this is no change.
LEAST_CHANGE = 0.03
LEAST_REST_S = 0.5
# Beyond this the control's own change says that the program does not work at an even rate.
MOST_CONTROL = 0.10

OUTCOMES = {
    FreezeResult.DONE: "frozen",
    FreezeResult.GONE: "gone before it could be frozen",
    FreezeResult.WAS_IMMORTAL: "not counted anyway (immortal)",
    FreezeResult.QUEUED: "left alone: its owner was merging its counts",
    FreezeResult.DEFERRED: "its count deferred",
}
CHANGED = (OUTCOMES[FreezeResult.DONE], OUTCOMES[FreezeResult.DEFERRED])
SPANS, ALLOCATIONS, IO, REST = "spans", "allocator turns", "I/O calls", "CPU to the end of the run"


def proof_of(folder: Path, *, salvage: bool = False) -> Proof | None:
    """None where the recording was made without --prove, or found nothing to prove."""
    if not (folder / FOLDER / FROZEN).is_dir():
        return None
    frozen = _proved_process(folder / FOLDER / FROZEN, salvage)
    control = _proved_process(folder / FOLDER / CONTROL, salvage)
    if frozen is None or not frozen.stops:
        return _untold("the rerun stopped nothing: no object was hot, or it ended too soon, or it has subinterpreters")
    objects, predicted = _predicted(frozen)
    if not any(item.outcome in CHANGED for item in objects):
        return replace(_untold("no object could be frozen"), objects=objects)
    for measure, count in ((SPANS, _column("spans")), (ALLOCATIONS, _column("allocations")), (IO, _column("io_calls"))):
        run = _compared(frozen, count)
        if run is None:
            continue
        control_run = _compared(control, count) if control is not None else None
        runs = {FROZEN: run} | ({CONTROL: control_run} if control_run else {})
        freed = control_run.freed if control_run else None
        proof = Proof(objects, measure, predicted, run.freed, freed, Evidence.MEASURED, runs)
        if freed is not None and abs(freed) > max(MOST_CONTROL, abs(run.freed) / 2):
            return replace(
                proof, why=f"without any freezing the rate of work also changed ({freed:+.0%}): run it again"
            )
        return proof
    return _by_the_rest(objects, predicted, frozen, control)


def with_proof(findings: Sequence[Finding], proof: Proof | None) -> tuple[Finding, ...]:
    """The findings, those on frozen objects with what freezing did in their detail."""
    if proof is None or proof.proven is None:
        return tuple(findings)
    changed = [item for item in proof.objects if item.outcome in CHANGED]
    names = [f"{item.object_type}: {item.name}" for item in changed]
    with_others = f" with {len(names) - 1} others" if len(names) > 1 else ""

    def told(outcome: str) -> str:
        how = "its count deferred" if outcome == OUTCOMES[FreezeResult.DEFERRED] else "frozen"
        return (
            f"{how} in a rerun{with_others}, a unit of work took {proof.proven:.0%} less CPU; "
            f"{proof.predicted:.0%} was predicted"
        )

    detail_of = {name: told(item.outcome) for name, item in zip(names, changed, strict=True)}
    return tuple(
        replace(finding, detail="; ".join(filter(None, (finding.detail, detail))))
        if finding.kind == "atomic-stall" and (detail := _ending(detail_of, finding.title))
        else finding
        for finding in findings
    )


def _ending(by_name: dict[str, str], title: str) -> str:
    return next((detail for name, detail in by_name.items() if title.endswith(name)), "")


def _untold(why: str) -> Proof:
    return Proof((), "", 0.0, None, None, Evidence.UNAVAILABLE, {}, why)


def _proved_process(folder: Path, salvage: bool) -> Recording | None:
    if not folder.is_dir() or not any(folder.glob("*.gpr")):
        return None
    recordings = read_folder(folder, salvage=salvage)
    recordings.sort(key=lambda recording: (not recording.stops, not recording.progress))
    return recordings[0] if recordings[0].progress else None


def _predicted(frozen: Recording) -> tuple[tuple[FrozenObject, ...], float]:
    """Each object the rerun was told to freeze, and the CPU (0-1) that those frozen should free."""
    stop_ns = frozen.stops[0]["begin_ns"]
    hot = {item.address: item for item in _hot_in_slices(frozen, matched_slices(frozen)[0])}
    objects = []
    for row in frozen.freezes:
        item = hot.get(row["object"])
        share = item.share * _counts_share(frozen, item.address, stop_ns) if item else 0.0
        outcome = OUTCOMES.get(FreezeResult(row["result"]), "not reached")
        name = item.name if item else f"at {row['object']:#x}"
        objects.append(FrozenObject(_type_of(frozen, row, item), name, row["object"], share, outcome))
    total = sum(item.predicted for item in objects if item.outcome in CHANGED)
    return tuple(objects), total


def _hot_in_slices(recording: Recording, slices: Sequence[Slice]) -> tuple[HotObject, ...]:
    if not slices:
        return ()
    times = recording.samples["time_ns"]
    at = np.searchsorted(np.array([piece.start_ns for piece in slices], np.uint64), times, side="right") - 1
    ends = np.array([piece.end_ns for piece in slices], np.uint64)
    part = recording.samples[(at >= 0) & (times < ends[np.maximum(at, 0)])]
    return hot_in(replace(recording, samples=part), 0, 1 << 63) if len(part) else ()


def hot_in(recording: Recording, start_ns: int, end_ns: int) -> tuple[HotObject, ...]:
    """The hot objects of a part of the run. Raises ImportError as hot_objects_of does."""
    from gilprobe.analysis.atomics import hot_objects_of

    times = recording.samples["time_ns"]
    part = replace(recording, samples=recording.samples[(times >= start_ns) & (times < end_ns)])
    return hot_objects_of([part])[0] if len(part.samples) else ()


def _type_of(recording: Recording, row: dict[str, int], item: HotObject | None) -> str:
    return item.object_type if item else recording.types.get(row["type_id"], "object")


def _counts_share(recording: Recording, address: int, before_ns: int) -> float:
    """Share of an object's atomic samples that are on its reference counts: its mutex cannot be frozen."""
    samples = recording.samples[recording.samples["time_ns"] < before_ns]
    own = samples[samples["object"] == address]
    if not len(own):
        return 1.0
    offsets = own["address"] - own["object"]
    return float(sum((offsets == offset).sum() for offset in REFERENCE_COUNTS) / len(own))


@dataclass(frozen=True, slots=True)
class _Mark:
    time_ns: int
    cpu_ns: int
    count: int


Counter = Callable[[Recording], list[_Mark]]


def _column(name: str) -> Counter:
    return lambda recording: [_Mark(row["time_ns"], row["cpu_ns"], row[name]) for row in recording.progress]


def _compared(recording: Recording, count: Counter) -> ProofRun | None:
    """None where too little was counted in the second before the world was stopped, or no time was left after it."""
    if not recording.stops:
        return None
    begin_ns, end_ns = recording.stops[0]["begin_ns"], recording.stops[0]["end_ns"]
    windows = matched_slices(recording, count(recording))
    if not all(windows):
        return None
    spent = [sum(piece.cpu_ns for piece in window) for window in windows]
    counted = [sum(piece.count for piece in window) for window in windows]
    lasted = [sum(piece.end_ns - piece.start_ns for piece in window) for window in windows]
    if min(counted) < LEAST_COUNTS or min(spent) < LEAST_WINDOW_CPU_NS:
        return None
    cores = [cpu_ns / time_ns for cpu_ns, time_ns in zip(spent, lasted, strict=True)]
    work = [number / cpu_ns * 1e9 for number, cpu_ns in zip(counted, spent, strict=True)]
    # As if the counted things happened at random: spans may, the allocator's turns are more even than that.
    margin = work[0] / work[1] * (1 / counted[0] + 1 / counted[1]) ** 0.5
    stopped_s = (end_ns - begin_ns) / 1e9
    return ProofRun(work[0], work[1], cores[0], cores[1], margin, stopped_s, _rest_cpu_s(recording))


@dataclass(frozen=True, slots=True)
class Slice:
    """From one progress record to the next; cpu_ns and count: what was used and done in it."""

    start_ns: int
    end_ns: int
    cpu_ns: int
    count: int = 0

    @property
    def cores(self) -> float:
        return self.cpu_ns / (self.end_ns - self.start_ns)


def matched_slices(recording: Recording, marks: Sequence[_Mark] | None = None) -> tuple[list[Slice], list[Slice]]:
    """Of the time before the world was stopped and after, the slices in which about as many threads ran at once."""
    begin_ns, end_ns = recording.stops[0]["begin_ns"], recording.stops[0]["end_ns"] + SETTLE_NS
    marks = _column("io_calls")(recording) if marks is None else marks
    slices = [
        Slice(one.time_ns, other.time_ns, other.cpu_ns - one.cpu_ns, other.count - one.count)
        for one, other in pairwise(marks)
        if other.time_ns > one.time_ns
    ]
    before = [piece for piece in slices if begin_ns - WINDOW_NS <= piece.start_ns and piece.end_ns <= begin_ns]
    after = [piece for piece in slices if end_ns <= piece.start_ns and piece.end_ns <= end_ns + WINDOW_NS]
    if not before or not after:
        return before, after
    by_cores = sorted(piece.cores for piece in (*before, *after))
    least = LEAST_OF_BEST_CORES * by_cores[int(BEST_QUANTILE * (len(by_cores) - 1))]
    matched = [[piece for piece in part if piece.cores >= least] for part in (before, after)]
    few = all(sum(piece.count for piece in part) >= LEAST_COUNTS for part in (before, after)) and not all(
        sum(piece.count for piece in part) >= LEAST_COUNTS for part in matched
    )
    if few or min(sum(piece.end_ns - piece.start_ns for piece in part) for part in matched) < LEAST_MATCHED_NS:
        return before, after
    return matched[0], matched[1]


def restless(proof: Proof) -> bool:
    """The control says that the rate of work changed without any freezing: another try may be quieter."""
    return bool(proof.why) and proof.proven is not None and proof.control is not None


def _rest_cpu_s(recording: Recording) -> float:
    stop_ns = recording.stops[0]["end_ns"]
    at_stop = next((row["cpu_ns"] for row in recording.progress if row["time_ns"] >= stop_ns), 0)
    return max(0, recording.header["process_cpu_ns"] - at_stop) / 1e9


def _by_the_rest(
    objects: tuple[FrozenObject, ...], predicted: float, frozen: Recording, control: Recording | None
) -> Proof:
    proof = replace(_untold(""), objects=objects, measure=REST, predicted=predicted)
    if control is None or any(run.header["end_kind"] == EndKind.NONE for run in (frozen, control)):
        return replace(proof, why="too little work was counted, and a rerun did not come to its end")
    rest_s = _rest_cpu_s(frozen)
    without_s = (control.header["process_cpu_ns"] - frozen.header["process_cpu_ns"]) / 1e9 + rest_s
    if without_s < LEAST_REST_S:
        return replace(proof, why="too little work was counted, and too little was left to do")
    proof = replace(proof, rest_cpu_s=(rest_s, without_s))
    if abs(without_s - rest_s) < LEAST_CHANGE * without_s:
        why = "too little work was counted, and the script took as long as without: it may run for a fixed time"
        return replace(proof, why=why)
    return replace(proof, proven=1 - rest_s / without_s, evidence=Evidence.ESTIMATED)
