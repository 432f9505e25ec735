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
