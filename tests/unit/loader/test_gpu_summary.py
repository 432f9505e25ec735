"""What context switching explains of a difference in speed is never more than the gaps allow."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch", reason="NO TORCH: the GPU study's summary was not tested")


def row(speed: float, gaps: float | None = None) -> dict[str, Any]:
    cuda = {} if gaps is None else {"cuda": {"gaps": {"share": gaps}, "switch_evidence": "estimated"}}
    return {"images_per_s": speed, **cuda}


@pytest.mark.parametrize(
    ("threads", "processes", "mps", "at_most", "closes", "says"),
    [
        (200.0, row(100.0, 0.2), row(180.0), 0.25, 0.8, "at most 25% of the difference; MPS closes 80%"),
        (200.0, row(100.0, 0.9), None, 1.0, None, "no second witness"),
        (200.0, row(100.0, 0.2), row(110.0), 0.25, 0.1, "not the main cause"),
        (90.0, row(100.0, 0.2), row(110.0), None, None, "do not win"),
        (200.0, row(100.0), None, None, None, "are not known"),
    ],
)
def test_explained(
    threads: float, processes: dict[str, Any], mps: dict[str, Any] | None, at_most: Any, closes: Any, says: str
) -> None:
    from gilprobe.loader.study.gpu_summary import explained

    found = explained(row(threads), processes, mps)
    assert found["gaps_explain_at_most"] == (None if at_most is None else pytest.approx(at_most))
    assert found["mps_closes"] == (None if closes is None else pytest.approx(closes))
    assert says in found["verdict"]


def test_what_the_rounds_do_not_decide_is_not_explained() -> None:
    from gilprobe.loader.study.gpu_summary import explained

    found = explained(row(200.0), row(100.0, 0.2), None, "undecided")
    assert found["gaps_explain_at_most"] is None and "not decided" in found["verdict"]


def answer(mode: str, backend: str = "hybrid", build: str = "3.13t", **more: Any) -> dict[str, Any]:
    return {"build": build, "mode": mode, "backend": backend, "workers": 4, "traced": False, "round": 0,
            "images_per_s": 10.0, "gil": False, **more}  # fmt: skip


def test_the_table_tells_a_gil_turned_on_again_mps_that_did_not_serve_and_the_decoders_use() -> None:
    from gilprobe.loader.study.gpu_summary import HEADS, summarize, table

    seen = {"gaps": {"share": 0.5}, "switch_evidence": "estimated", "changes_per_s": 9.0, "processes": []}
    mps = "processes under MPS"
    answers = [
        *(answer("threads", gil=True, round=number) for number in range(2)),
        *(answer("processes", round=number, images_per_s=5.0) for number in range(2)),
        answer(mps),
        answer(mps, traced=True, cuda=seen | {"contexts": [{"mps": False}]}),
        answer("threads", "hardware"),
        answer("threads", "hardware", traced=True, cuda={"rung": "D", "nvml": {"jpg_share": 0.25}}),
    ]
    rows = [
        dict(zip(HEADS, cells, strict=True)) for cells in table(summarize({str(at): a for at, a in enumerate(answers)}))
    ]
    (compared,) = summarize({str(at): a for at, a in enumerate(answers)})["comparisons"]
    assert compared["mps_closes"] is None
    by_place = {(r["backend"], r["mode"]): r for r in rows}
    assert by_place["hybrid", "threads"]["build"] == "3.13t, GIL on"
    assert by_place["hardware", "threads"]["build"] == "3.13t" and by_place["hardware", "threads"]["NVJPG"] == "~25%"
    assert by_place["hybrid", mps]["changes/s"] == "MPS did not serve"
