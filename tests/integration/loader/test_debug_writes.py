"""Each planted write by two workers is found with both stacks; the twin that writes nothing shared is not flagged."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the loader needs torch: install gilprobe[loader]")

from gilprobe.errors import GilprobeError  # noqa: E402
from gilprobe.loader import ThreadDataLoader  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Samples(torch.utils.data.Dataset):
    """Both workers are made to meet, so that neither takes all the samples before the other begins."""

    def __init__(self, path: Path) -> None:
        self.cache: dict[int, int] = {}
        self.seen: list[int] = []
        self.count = 0
        self.file = path.open("rb")
        self.table = torch.zeros(4)
        self.meet = threading.Barrier(2, timeout=20)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        self.meet.wait()
        self.act(index)
        return index

    def act(self, index: int) -> None: ...


class SetsAttribute(Samples):
    def act(self, index: int) -> None:
        self.count += 1


class FillsCache(Samples):
    def act(self, index: int) -> None:
        self.cache[index] = index


class Appends(Samples):
    def act(self, index: int) -> None:
        self.seen.append(index)


class ReadsFile(Samples):
    def act(self, index: int) -> None:
        self.file.seek(0)


class DrawsRandom(Samples):
    def act(self, index: int) -> None:
        random.random()


class DrawsNumpy(Samples):
    def act(self, index: int) -> None:
        np.random.rand(1)


class DrawsTorch(Samples):
    def act(self, index: int) -> None:
        torch.rand(1)


class OnlyReads(Samples):
    def act(self, index: int) -> None:
        assert self.cache.get(index) is None and len(self.seen) == 0
        torch.rand(1, generator=torch.random.thread_safe_generator())


class WritesInOneWorker(Samples):
    def act(self, index: int) -> None:
        info = torch.utils.data.get_worker_info()
        if info.id == 0:
            self.cache[index] = index
            self.count += 1


PLANTED = {
    SetsAttribute: "dataset.count",
    FillsCache: "dataset.cache",
    Appends: "dataset.seen",
    ReadsFile: "dataset.file",
    DrawsRandom: "the global generator of random",
    DrawsNumpy: "the global generator of numpy.random",
    DrawsTorch: "the global generator of torch",
}


def run(kind: type[Samples], tmp_path: Path) -> Any:
    path = tmp_path / "data"
    path.write_bytes(b"data")
    loader = ThreadDataLoader(kind(path), batch_size=1, num_workers=2, isolate="share", debug_writes=True)
    list(loader)
    return loader


@pytest.mark.parametrize("kind", PLANTED)
def test_a_write_by_two_workers_is_found_with_both_stacks(kind: type[Samples], tmp_path: Path) -> None:
    found = run(kind, tmp_path).shared_writes
    assert [write.target for write in found] == [PLANTED[kind]]
    assert set(found[0].workers) == {0, 1}
    assert all("in act" in stack for stack in found[0].stacks)


def test_the_twin_that_only_reads_is_not_flagged(tmp_path: Path) -> None:
    loader = run(OnlyReads, tmp_path)
    assert loader.shared_writes == ()
    assert any(name.startswith("dataset.table") for name in loader.unseen_writes)


def test_the_twin_in_which_one_worker_writes_is_not_flagged(tmp_path: Path) -> None:
    assert run(WritesInOneWorker, tmp_path).shared_writes == ()


def test_a_copied_dataset_has_no_shared_writes_to_look_for() -> None:
    with pytest.raises(GilprobeError, match="debug_writes"):
        ThreadDataLoader([1], debug_writes=True)
