"""A study of two cells, run for real, broken off and gone on with."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the loader needs torch: install gilprobe[loader]")
pytest.importorskip("skimage", reason="the study crops its pictures from scikit-image's samples")

from gilprobe.errors import GilprobeError
from gilprobe.loader.study.matrix import Cell
from gilprobe.loader.study.runner import Study, find_builds


def test_a_broken_off_study_goes_on_where_it_was(tmp_path: Path) -> None:
    builds = find_builds([sys.executable])[:1]
    matrix = [
        Cell(builds[0].label, method, "pillow", 2, 8, (64, 64), "hand over", 64) for method in ("threads", "fork")
    ]
    seen: list[int] = []
    Study(builds, matrix, tmp_path).run(1, 1, 1, None, lambda done, total: seen.append(done))
    log = tmp_path / "answers.jsonl"
    lines = log.read_text().splitlines()
    assert len(lines) == 2 and seen == [1, 2]
    answers = [json.loads(line)["answer"] for line in lines]
    assert all("error" not in answer and answer["images_per_s"][0] > 0 for answer in answers)
    assert [answer["pixels_differ"] for answer in answers if "pixels_differ" in answer] == [0]
    log.write_text(lines[0] + "\n" + lines[1][:40])
    again = Study(builds, matrix, tmp_path)
    assert len(again.answers) == 1
    seen.clear()
    again.run(1, 1, 1, None, lambda done, total: seen.append(done))
    assert len(seen) == 1 and len(again.answers) == 2


def test_an_interpreter_without_torch_is_refused(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(GilprobeError, match="cannot import torch"):
        find_builds([str(fake)])
    with pytest.raises(GilprobeError, match="does not run"):
        find_builds([str(tmp_path / "none")])
