"""advise() on real trials. Which side wins depends on the machine; what must hold on any is tested here."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the loader needs torch: install gilprobe[loader]")

from gilprobe.errors import GilprobeError  # noqa: E402
from gilprobe.loader import advise  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Sleeps(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> int:
        time.sleep(0.002)
        return index


class OnlyInThreads(Sleeps):
    """Knows the process it was made in: fails in any other."""

    def __init__(self) -> None:
        import os

        self.pid = os.getpid()

    def __getitem__(self, index: int) -> int:
        import os

        if os.getpid() != self.pid:
            raise OSError("another process")
        return index


class Fails(Sleeps):
    def __getitem__(self, index: int) -> Any:
        raise ValueError("broken picture")


def test_the_advised_trial_is_among_the_fastest() -> None:
    advice = advise(
        Sleeps(), batch_size=4, workers=(1, 2), budget_s=4, confirm=True, train_step=lambda batch: time.sleep(0.001)
    )
    speeds = {(trial.method, trial.num_workers): trial.speed for trial in advice.trials}
    assert len(speeds) == 4 and all(trial.error is None for trial in advice.trials)
    assert speeds[advice.method, advice.num_workers] * 1.05 >= max(speeds.values())
    assert advice.confirmed in (True, False) and "batches/s" in advice.reasons[0]
    assert all(trial.train_delay is not None and trial.train_delay > 0 for trial in advice.trials)


def test_a_method_that_fails_is_not_advised_and_its_error_is_told() -> None:
    advice = advise(OnlyInThreads(), batch_size=4, workers=(1,), budget_s=1)
    assert advice.method == "threads" and advice.confirmed is None
    assert any("processes with 1 worker(s) failed" in reason for reason in advice.reasons)


def test_nothing_is_advised_where_every_trial_fails() -> None:
    with pytest.raises(GilprobeError, match=r"broken picture|ValueError"):
        advise(Fails(), workers=(1,), budget_s=1)


@pytest.mark.parametrize("options", [{"workers": ()}, {"workers": (0,)}, {"budget_s": 0}])
def test_unusable_arguments_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(GilprobeError):
        advise(Sleeps(), **options)
    assert threading.active_count() < 50
