"""The study's own arithmetic."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("numpy")
pytest.importorskip("torch", reason="the loader needs torch: install gilprobe[loader]")

from gilprobe.loader.study import cause, usl
from gilprobe.loader.study.cause import lost
from gilprobe.loader.study.matrix import Build, Cell, batches_a_worker, cells
from gilprobe.loader.study.page import scaling
from gilprobe.loader.study.summary import summarize

GIL = Build("python", "3.11.7", "gil")


def test_the_law_is_recovered_from_its_own_figures() -> None:
    truth = usl.Fit(100.0, 0.08, (0, 0), 0.002, (0, 0), None)
    samples = {n: [truth.throughput(n) * noise for noise in (0.99, 1.0, 1.01)] for n in (1, 2, 4, 8, 16)}
    fitted = usl.fit(samples)
    assert fitted is not None
    assert fitted.contention == pytest.approx(0.08, rel=0.05) and fitted.coherency == pytest.approx(0.002, rel=0.05)
    assert fitted.contention_interval[0] <= 0.08 <= fitted.contention_interval[1]
    assert fitted.peak_workers == pytest.approx(21.4, rel=0.05)


def test_no_law_is_fitted_below_four_worker_counts() -> None:
    assert usl.fit({1: [1.0], 2: [2.0], 4: [4.0]}) is None


def answer(speed: float) -> dict[str, object]:
    names = (
        "cpu_ms_per_image",
        "page_faults_per_image",
        "voluntary_switches_per_image",
        "involuntary_switches_per_image",
    )
    return {"images_per_s": [speed], "gil_enabled": True, **dict.fromkeys(names, 1.0)}


@pytest.mark.parametrize(
    ("threads", "outcome"),
    [((120, 130), "ahead"), ((80, 90), "behind"), ((80, 130), "undecided"), ((120,), "undecided")],
)
def test_a_ratio_is_called_by_its_whole_range(threads: tuple[int, ...], outcome: str) -> None:
    matrix = [Cell(GIL.label, method, "pillow", 2, 32, (640, 408), "hand over", 96) for method in ("threads", "fork")]
    answers = {(matrix[0].key, n): answer(speed) for n, speed in enumerate(threads)}
    answers |= {(matrix[1].key, n): answer(100) for n in range(len(threads))}
    found = summarize([GIL], matrix, answers, "")
    assert [ratio["outcome"] for ratio in found["ratios"]] == [outcome]
    word = {"ahead": "ahead of", "behind": "behind", "undecided": "cannot be told"}[outcome]
    assert word in found["verdict"][0]


@pytest.mark.parametrize(("load", "busy"), [(40.0, True), (1.0, False), (None, False)])
def test_a_busy_machine_is_told(monkeypatch: pytest.MonkeyPatch, load: float | None, busy: bool) -> None:
    """By what was seen after each measurement: a study that was gone on with may end on a quiet machine."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    cell = Cell(GIL.label, "threads", "pillow", 2, 32, (640, 408), "hand over", 96)
    answers = {(cell.key, 0): {**answer(100), **({} if load is None else {"load_average": load})}}
    found = summarize([GIL], [cell], {**answers, (cell.key, 1): answer(100)}, "")
    assert bool(found["notes"]) == busy
    assert (found["environment"]["load_average"] or {}).get("most") == load


@pytest.mark.parametrize(("cores", "told"), [(2, True), (4, False)])
def test_a_fit_beyond_the_cores_says_so_and_nothing_of_more(
    monkeypatch: pytest.MonkeyPatch, cores: int, told: bool
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    matrix = [Cell(GIL.label, "threads", "pillow", n, 32, (640, 408), "hand over", 96) for n in (1, 2, 3, 4)]
    answers = {(cell.key, n): answer(min(cell.workers, 2) * 100 + n) for cell in matrix for n in range(3)}
    found = summarize([GIL], matrix, answers, "")
    text = scaling(found["scaling"], cores)
    assert "contention" in text and ("96 cores" in text) != told and ("fastest" in text or "too many" in text) != told
    assert ("This machine has 2 cores" in text) == told


def test_the_whole_matrix_has_every_shape_once() -> None:
    matrix = cells([GIL], (1, 2, 4), "whole")
    assert len({cell.key for cell in matrix}) == len(matrix) == 2 * 3 * 2 * 3 * 3 * 3
    standard = {cell.key for cell in cells([GIL], (1, 2, 4), "standard")}
    assert {cell.key for cell in cells([GIL], (1, 2, 4), "quick")} < standard < {cell.key for cell in matrix}
    large = {
        (cell.method, cell.workers, cell.size) for cell in cells([GIL], (1, 2, 4), "standard") if cell.batch == 512
    }
    assert large == {(method, 2, (640, 408)) for method in ("threads", "fork")}
    assert all(cell.images == batches_a_worker(cell.batch) * cell.batch * cell.workers for cell in matrix)


@pytest.mark.parametrize("size", [(640, 408), (64, 64)])
def test_the_verdict_quotes_the_profile_of_the_slower_side(size: tuple[int, int]) -> None:
    matrix = [Cell(GIL.label, method, "pillow", 2, 32, size, "hand over", 96) for method in ("threads", "fork")]
    answers = {(cell.key, n): answer(speed) for cell, speed in zip(matrix, (80, 100), strict=True) for n in (0, 1)}

    def explain(ratios: list[dict[str, object]]) -> list[dict[str, object]]:
        (side,) = lost(ratios)
        assert (side.method, side.outcome, side.size) == ("threads", "behind", size)
        waterfall = [{"name": "gil", "one_worker_us": 1.0, "us": 251.0}]
        cause = {"part": "dataset", "kind": "gil", "share": 0.25, "name": "the GIL", "evidence": "measured"}
        place = {"build": side.build, "codec": side.codec, "workers": side.workers, "batch": side.batch}
        place["size"] = list(side.size)
        return [{**place, "method": side.method, "waterfall": waterfall, "causes": [cause], "findings": []}]

    said = summarize([GIL], matrix, answers, "", explain)["verdict"][0]
    assert ("64x64" in said) == (size == (64, 64))
    assert "250 us more waiting for the GIL" in said and "25.0% of the work waiting for the GIL in the dataset" in said
    assert "profile" not in summarize([GIL], matrix, answers, "")["verdict"][0]


def test_small_pictures_have_a_paragraph_only_where_threads_are_behind() -> None:
    matrix = [Cell(GIL.label, method, "pillow", 2, 32, (64, 64), "hand over", 96) for method in ("threads", "fork")]
    answers = {(cell.key, n): answer(speed) for cell, speed in zip(matrix, (120, 100), strict=True) for n in (0, 1)}
    found = summarize([GIL], matrix, answers, "")
    assert found["ratios"][0]["outcome"] == "ahead"
    assert found["verdict"] == lost(found["ratios"]) == []


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (cause.__file__, "gilprobe/loader/study/cause.py"),
        ("/env/lib/python3.13t/site-packages/PIL/Image.py", "PIL/Image.py"),
        ("/usr/lib/python3.11/json/decoder.py", "json/decoder.py"),
        ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap>"),
    ],
)
def test_causes_name_files_as_their_packages_do(file: str, expected: str) -> None:
    (site,) = cause._portable({"sites": [{"file": file, "line": 3}]})["sites"]
    assert site == {"file": expected, "line": 3}
