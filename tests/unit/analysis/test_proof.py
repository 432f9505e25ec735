"""What the reruns of --prove prove: which measure counts, and when none does."""

from __future__ import annotations

from pathlib import Path

import pytest
from recordings import SECOND, Written, chunk, extent, record

from gilprobe.analysis.proof import ALLOCATIONS, IO, REST, SPANS, proof_of
from gilprobe.model import Proof
from gilprobe.recording import schema
from gilprobe.recording.schema import EndKind, FreezeResult, HeaderFlag, RecordType

STOP = 4 * SECOND
TICK = SECOND // 20


def rerun(
    folder: Path, *, before: dict[str, int], after: dict[str, int], cpu_s: int = 10, frozen: bool = True, **header: int
) -> None:
    """From second 1 to 7 on one core, the world stopped at 4. before, after: counts a second."""
    folder.mkdir(parents=True)
    records = [record(RecordType.STOP, schema.STOP_RECORD, begin_ns=STOP, end_ns=STOP + 1_000_000)]
    if frozen:
        records.append(record(RecordType.FREEZE, schema.FREEZE_RECORD, object=4096, result=FreezeResult.DONE))
    for time_ns in range(SECOND, 7 * SECOND, TICK):
        early, late = (min(time_ns, STOP) - SECOND) / SECOND, max(0, time_ns - STOP) / SECOND
        counts = {
            name: int(before.get(name, 0) * early + after.get(name, 0) * late)
            for name in ("allocations", "io_calls", "spans")
        }
        records.append(
            record(RecordType.PROGRESS, schema.PROGRESS_RECORD, time_ns=time_ns, cpu_ns=time_ns - SECOND, **counts)
        )
    parts = [records[at : at + 40] for at in range(0, len(records), 40)]
    chunks = [chunk(b"".join(part)) for part in parts]
    extents = [extent(*chunks[at : at + 7]) for at in range(0, len(chunks), 7)]
    flags = HeaderFlag.PYTHON_STACKS | HeaderFlag.FREE_THREADED
    Written(extents, flags=flags, header={"process_cpu_ns": cpu_s * SECOND} | header).into(folder)


def proved(folder: Path) -> Proof:
    proof = proof_of(folder)
    assert proof is not None
    return proof


EVEN = {"allocations": 1000}
DOUBLE = {"allocations": 2000}


def test_no_reruns_no_proof(tmp_path: Path) -> None:
    assert proof_of(tmp_path) is None


def test_half_the_cpu_a_unit_of_work_is_half_freed(tmp_path: Path) -> None:
    rerun(tmp_path / "proof" / "frozen", before=EVEN, after=DOUBLE)
    rerun(tmp_path / "proof" / "control", before=EVEN, after=EVEN, frozen=False)
    proof = proved(tmp_path)
    assert proof.measure == ALLOCATIONS and not proof.why
    assert proof.proven == pytest.approx(0.5, abs=0.01) and proof.control == pytest.approx(0, abs=0.01)
    assert proof.speedup == pytest.approx(2, abs=0.05)


def test_spans_count_before_the_allocator_and_io_after_it(tmp_path: Path) -> None:
    rerun(tmp_path / "a" / "proof" / "frozen", before=EVEN | {"spans": 100}, after=DOUBLE | {"spans": 100})
    assert proved(tmp_path / "a").measure == SPANS
    assert proved(tmp_path / "a").proven == pytest.approx(0, abs=0.03)
    rerun(tmp_path / "b" / "proof" / "frozen", before={"io_calls": 500}, after={"io_calls": 1000})
    assert proved(tmp_path / "b").measure == IO


def test_a_control_that_changes_as_much_leaves_it_undecided(tmp_path: Path) -> None:
    rerun(tmp_path / "proof" / "frozen", before=EVEN, after=DOUBLE)
    rerun(tmp_path / "proof" / "control", before=EVEN, after=DOUBLE, frozen=False)
    assert "without any freezing" in proved(tmp_path).why


@pytest.mark.parametrize(("control_cpu_s", "proven"), [(17, 0.5), (10, None)])
def test_where_nothing_is_counted_the_cpu_to_the_end_tells_unless_it_is_the_same(
    tmp_path: Path, control_cpu_s: int, proven: float | None
) -> None:
    rerun(tmp_path / "proof" / "frozen", before={}, after={})  # 3 s of its 10 s of CPU before the stop
    rerun(tmp_path / "proof" / "control", before={}, after={}, cpu_s=control_cpu_s, frozen=False)
    proof = proved(tmp_path)
    assert proof.measure == REST
    assert proof.proven == (None if proven is None else pytest.approx(proven, abs=0.02))
    assert bool(proof.why) is (proven is None)


def test_a_rerun_that_was_killed_proves_nothing_by_its_end(tmp_path: Path) -> None:
    rerun(tmp_path / "proof" / "frozen", before={}, after={}, end_kind=EndKind.NONE)
    rerun(tmp_path / "proof" / "control", before={}, after={}, cpu_s=17, frozen=False)
    assert proved(tmp_path).proven is None


def test_a_rerun_without_a_hot_object_says_so(tmp_path: Path) -> None:
    rerun(tmp_path / "proof" / "frozen", before=EVEN, after=DOUBLE, frozen=False)
    proof = proved(tmp_path)
    assert proof.proven is None and proof.why
