"""Tells when a private name of torch that the loader leans on has gone; the loader then falls back."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the loader needs torch: install gilprobe[loader]")

from gilprobe.loader import torch_seams  # noqa: E402


@pytest.mark.parametrize(
    "name",
    [
        "_C._profiler._RecordFunctionFast",
        "_utils.ExceptionWrapper",
        "autograd._profiler_enabled",
        "utils.data._utils.pin_memory.pin_memory",
        "utils.data._utils.collate.default_collate_fn_map",
        "utils.data._utils.worker._generate_state",
        "utils.data._utils.worker._RNG",
        "utils.data._utils.worker.WorkerInfo",
    ],
)
def test_torch_still_has(name: str) -> None:
    found = torch
    for part in name.split("."):
        assert hasattr(found, part), f"torch {torch.__version__} has no torch.{name}: the loader uses its fallback"
        found = getattr(found, part)


def test_fallback_failure_speaks_torchs_words() -> None:
    messages = []
    for kind in (torch._utils.ExceptionWrapper, torch_seams.PlainFailure):
        try:
            raise LookupError("no such picture")
        except LookupError:
            wrapped = kind(where="in DataLoader worker thread 0")
        with pytest.raises(LookupError) as caught:
            wrapped.reraise()
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_fallback_worker_info_has_the_fields_of_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    own = torch_seams.worker_info(1, 2, 10, "data")
    monkeypatch.setattr(torch_seams, "_worker_module", lambda: None)
    fallback = torch_seams.worker_info(1, 2, 10, "data")
    for name in ("id", "num_workers", "seed", "dataset", "worker_method"):
        assert getattr(fallback, name) == getattr(own, name)
    assert fallback.rng.random_generator.random() == own.rng.random_generator.random()
