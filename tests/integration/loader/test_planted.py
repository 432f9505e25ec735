"""Planted causes in a dataset: the profile of the loader ranks each first, and its fixed twin does not have it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from pythons import CACHE

pytest.importorskip("torch", reason="the loader needs torch: install gilprobe[loader]")

from gilprobe.analysis.loader import fault_cost_s, loader_of
from reports.loader.ranking import is_less, is_ranked_first, is_silent
from reports.loader.ranking import loader_of as profiled

FREE_THREADED = Path(os.environ.get("GILPROBE_LOADER_PYTHON", CACHE / "loader-t/bin/python"))

WITH_GIL = Path(os.environ.get("GILPROBE_LOADER_GIL_PYTHON", CACHE / "loader/bin/python"))
CODECS = [str(python) for python in (WITH_GIL, FREE_THREADED) if python.exists()]


@pytest.mark.parametrize("cause", ["shared-lock", "holds-the-gil", "allocator", "shared-codec"])
def test_a_planted_cause_comes_first_with_the_gil(cause: str) -> None:
    planted, fixed = (profiled(sys.executable, sys.executable, cause, twin) for twin in ("planted", "fixed"))
    assert is_ranked_first(cause, planted), planted["causes"]
    assert is_less(cause, planted, fixed), (planted["parts"], fixed["parts"])


@pytest.mark.skipif(not FREE_THREADED.exists(), reason="NO TORCH FOR FREE-THREADED PYTHON: make loader-environments")
@pytest.mark.parametrize("cause", ["shared-dict", "shared-lock"])
def test_a_planted_cause_comes_first_without_the_gil(cause: str) -> None:
    planted, fixed = (profiled(sys.executable, str(FREE_THREADED), cause, twin) for twin in ("planted", "fixed"))
    assert is_ranked_first(cause, planted), planted["causes"]
    assert is_less(cause, planted, fixed), (planted["parts"], fixed["parts"])


@pytest.mark.skipif(not CODECS, reason="NO NVIMAGECODEC FOR ANY PYTHON: make loader-environments")
@pytest.mark.parametrize("python", CODECS)
def test_a_shared_decoder_is_told_even_where_it_ends_the_process(python: str) -> None:
    planted, fixed = (profiled(sys.executable, python, "shared-decoder", twin) for twin in ("planted", "fixed"))
    assert is_ranked_first("shared-decoder", planted), planted["causes"]
    assert is_silent("shared-decoder", fixed), fixed["causes"]


def test_the_parts_add_up_and_are_counted() -> None:
    loader = profiled(sys.executable, sys.executable, "shared-lock", "fixed")
    assert loader["batches"] == 40 and len(loader["workers"]) == 2
    assert set(loader["parts"]) == {"index wait", "dataset", "collate", "output wait"}
    for part in (*loader["parts"].values(), loader["starved"]):
        classes: dict[str, Any] = {name: value for name, value in part.items() if name != "wall"}
        assert sum(classes.values()) >= 0.99 * part["wall"]
    assert 0.01 < loader["fault_cost_us"] < 100


def test_without_a_loader_there_is_nothing_to_say() -> None:
    assert loader_of((), (), ()) == {} and fault_cost_s(()) == 0
