"""The lower rungs, from files as torch.profiler and our sampler write them (by hand: nothing here is of a GPU)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recordings import Written, chunk, extent, thread

from gilprobe.analysis import load
from gilprobe.render.cuda import cuda_lines


def folder(tmp_path: Path, **ladder: Any) -> Path:
    (tmp_path / "cuda.json").write_text(json.dumps({"wanted": "auto", "reason": "", **ladder}))
    return Written([extent(chunk(thread(1)))]).into(tmp_path)


def test_no_source_gives_the_reason_and_no_figure(tmp_path: Path) -> None:
    cuda = load(folder(tmp_path, reason="there is no NVIDIA driver here")).cuda
    assert cuda["rung"] == "E" and cuda_lines(cuda) == ["CUDA [unavailable]: there is no NVIDIA driver here"]


def test_a_script_that_made_no_cuda_call(tmp_path: Path) -> None:
    assert load(folder(tmp_path)).cuda["reason"] == "the script made no CUDA call"


def test_kernels_of_torch_profiler_are_owned_by_their_contexts(tmp_path: Path) -> None:
    events = [
        {"ph": "X", "cat": cat, "ts": at, "dur": 5.0, "args": {"device": 0, "context": context}}
        for cat, at, context in (("kernel", 10.0, 1), ("kernel", 20.0, 2), ("gpu_memcpy", 30.0, 1), ("cpu_op", 31.0, 1))
    ]
    (tmp_path / "7.kineto.json").write_text(json.dumps({"traceEvents": events}))
    cuda = load(folder(tmp_path)).cuda
    assert (cuda["rung"], cuda["changes"], cuda["switch_evidence"]) == ("C", 2, "estimated")
    assert [(c["kernels"], c["copies"]) for c in cuda["contexts"]] == [(1, 1), (1, 0)]
    assert [c["threads"] for c in cuda["contexts"]] == [None, None] and cuda["figures"]["threads"] == "unavailable"
    assert "threads that made it current [unavailable]" in cuda_lines(cuda)[-1]
    assert without_evidence(cuda) == set()


def test_samples_of_nvml_give_use_and_nothing_of_contexts(tmp_path: Path) -> None:
    samples = [{"gpu": gpu, "jpg": jpg, "processes": [{"pid": 1, "mps": False}]} for gpu, jpg in ((50, 10), (100, 30))]
    (tmp_path / "nvml.jsonl").write_text("".join(json.dumps(s) + "\n" for s in samples) + '{"gpu": 1')
    cuda = load(folder(tmp_path, reason="no libcupti")).cuda
    assert cuda["rung"] == "D" and cuda["evidence"] == "estimated" and "contexts" not in cuda
    assert (cuda["nvml"]["gpu_share"], cuda["nvml"]["jpg_share"], cuda["nvml"]["samples"]) == (0.75, 0.2, 2)
    assert "changed hands" not in " ".join(cuda_lines(cuda))
    assert without_evidence(cuda) == set()


def test_what_nvml_refuses_is_unavailable_and_not_zero(tmp_path: Path) -> None:
    (tmp_path / "nvml.jsonl").write_text(json.dumps({"gpu": None, "jpg": None, "processes": []}) + "\n")
    cuda = load(folder(tmp_path)).cuda
    assert cuda["nvml"]["gpu_share"] is None and cuda["figures"]["jpg_share"] == "unavailable"
    assert cuda_lines(cuda)[1].startswith("GPU in use [unavailable] of 1 samples' time, NVJPG [unavailable]")


def test_only_samples_within_the_window_count(tmp_path: Path) -> None:
    samples = [{"time_s": at, "gpu": 100, "jpg": at * 10, "processes": []} for at in range(1, 6)]
    (tmp_path / "nvml.jsonl").write_text("".join(json.dumps(s) + "\n" for s in samples))
    cuda = load(folder(tmp_path, window_ns=[1_900_000_000, 3_100_000_000])).cuda
    assert (cuda["nvml"]["samples"], cuda["nvml"]["jpg_share"]) == (2, 0.25)


def without_evidence(cuda: dict[str, Any]) -> set[str]:
    """Names of figures for which `figures` has no word."""
    names = {name for name, value in cuda.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    names |= cuda.get("nvml", {}).keys() - {"samples", "mps"}
    names |= {name for row in (*cuda.get("contexts", ()), *cuda.get("processes", ())) for name in row}
    known = {"pid", "context", "device", "mps", "contexts_left_out", "unpaired_switches", "window_s"}
    return names - known - cuda["figures"].keys()
