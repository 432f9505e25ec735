"""The same loader built twice, torch's with processes and ours with threads: what comes out must be the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the loader needs torch: install gilprobe[loader]")

from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info  # noqa: E402 - before the loader

from gilprobe.loader import ThreadDataLoader  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


class Rows(Dataset):
    """Says who fetched each row."""

    def __init__(self, length: int = 37) -> None:
        self.table = torch.arange(length * 3.0).reshape(length, 3)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        info = get_worker_info()
        who = (info.id, info.num_workers, info.seed) if info else (-1, 0, 0)
        return {"row": self.table[index], "array": np.full(2, index), "who": who, "name": str(index)}


class Batches(Rows):
    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self.table[index] for index in reversed(indices)]


class Stream(IterableDataset):
    """Uneven: worker n yields n + 3 numbers."""

    def __init__(self, reported: int | None = None) -> None:
        self.reported = reported

    def __iter__(self) -> Iterator[int]:
        info = get_worker_info()
        number = info.id if info else 0
        return iter(range(100 * number, 100 * number + number + 3))

    def __len__(self) -> int:
        if self.reported is None:
            raise TypeError
        return self.reported


class Faulty(Rows):
    def __init__(self, error: Callable[[], BaseException]) -> None:
        super().__init__(8)
        self.error = error

    def __getitem__(self, index: int) -> Any:
        if index == 3:
            raise self.error()
        return index


class TwoArguments(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(first, second)


def no_such_key() -> BaseException:
    return KeyError("no such key")


def cannot_be_rebuilt() -> BaseException:
    return TwoArguments(1, 2)


def rng(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (value.dtype, value.tolist())
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


CASES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "shuffled": (Rows, {"batch_size": 4, "shuffle": True}),
    "drop_last": (Rows, {"batch_size": 4, "drop_last": True}),
    "one_by_one": (Rows, {"batch_size": None}),
    "batch_sampler": (Rows, {"batch_sampler": [[5, 1], [2], [7, 7, 7]]}),
    "getitems": (Batches, {"batch_size": 5}),
    "prefetch": (Rows, {"batch_size": 2, "prefetch_factor": 5}),
    "persistent": (Rows, {"batch_size": 4, "shuffle": True, "persistent_workers": True}),
    "iterable": (Stream, {"batch_size": 2}),
    "iterable_drop_last": (Stream, {"batch_size": 2, "drop_last": True}),
    "iterable_one_by_one": (Stream, {"batch_size": None}),
    "iterable_persistent": (Stream, {"batch_size": 2, "persistent_workers": True}),
    "collate": (Rows, {"batch_size": 4, "collate_fn": len}),
    "context": (Rows, {"batch_size": 4, "multiprocessing_context": "fork"}),
}


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("case", CASES)
def test_same_batches_in_two_epochs(case: str, workers: int) -> None:
    make, options = CASES[case]
    if workers == 0 and {"prefetch_factor", "persistent_workers", "multiprocessing_context"} & options.keys():
        return
    results = []
    for kind in (DataLoader, ThreadDataLoader):
        generator = rng()
        loader = kind(make(), num_workers=workers, generator=generator, **options)
        epochs = [plain(list(loader)) for _ in range(2)]
        results.append((epochs, generator.get_state().tolist()))
    assert results[0] == results[1]


REFUSED: list[dict[str, Any]] = [
    {"num_workers": -1},
    {"timeout": -1},
    {"prefetch_factor": 2},
    {"num_workers": 1, "prefetch_factor": -1},
    {"persistent_workers": True},
    {"shuffle": True, "sampler": [1]},
    {"batch_sampler": [[1]], "batch_size": 2},
    {"batch_size": None, "drop_last": True},
    {"batch_size": 0},
    {"multiprocessing_context": "fork"},
    {"num_workers": 1, "multiprocessing_context": "spoon"},
    {"num_workers": 1, "multiprocessing_context": 3},
]


@pytest.mark.parametrize("options", REFUSED)
def test_refuses_in_torchs_words(options: dict[str, Any]) -> None:
    told = []
    for kind in (DataLoader, ThreadDataLoader):
        with pytest.raises((ValueError, TypeError)) as caught:
            kind(Rows(), **options)
        told.append((type(caught.value), str(caught.value)))
    assert told[0] == told[1]


@pytest.mark.parametrize("options", [{"shuffle": True}, {"sampler": [1]}, {"batch_sampler": [[1]]}])
def test_refuses_for_iterables_in_torchs_words(options: dict[str, Any]) -> None:
    told = []
    for kind in (DataLoader, ThreadDataLoader):
        with pytest.raises(ValueError) as caught:
            kind(Stream(), **options)
        told.append(str(caught.value))
    assert told[0] == told[1]


def test_guards_what_may_not_be_set_later() -> None:
    loader = ThreadDataLoader(Rows())
    with pytest.raises(
        ValueError, match="batch_size attribute should not be set after ThreadDataLoader is initialized"
    ):
        loader.batch_size = 3
    assert isinstance(loader, DataLoader)
    assert ThreadDataLoader[int] is not None


@pytest.mark.parametrize("error", [no_such_key, cannot_be_rebuilt])
def test_errors_come_back_as_torch_brings_them_and_iteration_goes_on(error: Callable[[], BaseException]) -> None:
    seen = []
    for kind in (DataLoader, ThreadDataLoader):
        iterator = iter(kind(Faulty(error), batch_size=2, num_workers=2))
        outcomes: list[Any] = []
        for _ in range(4):
            try:
                outcomes.append(next(iterator).tolist())
            except Exception as caught:
                text = str(caught)
                assert "in __getitem__" in text and "raise self.error()" in text
                outcomes.append((type(caught), text.split(" in DataLoader worker ")[0]))
        with pytest.raises(StopIteration):
            next(iterator)
        seen.append(outcomes)
    assert seen[0] == seen[1]


def test_warns_of_an_iterable_that_reports_too_few() -> None:
    told = []
    for kind in (DataLoader, ThreadDataLoader):
        loader = kind(Stream(reported=2), batch_size=None, num_workers=2)
        assert len(loader) == 2
        with pytest.warns(UserWarning) as caught:
            list(loader)
        told.append(
            [str(w.message).split(" object at ")[-1][14:] for w in caught if "was reported to be" in str(w.message)]
        )
    assert told[0] == told[1] and told[0]


def test_the_consumers_generators_are_left_alone() -> None:
    states = []
    for kind in (DataLoader, ThreadDataLoader):
        torch.manual_seed(1), random.seed(1), np.random.seed(1)
        list(kind(Rows(), batch_size=4, num_workers=2))
        states.append((torch.rand(1).item(), random.random(), np.random.rand()))
    assert states[0] == states[1]


class Draws(Rows):
    def __getitem__(self, index: int) -> Any:
        generator = torch.random.thread_safe_generator()
        return torch.rand(2, generator=generator)


@pytest.mark.skipif(
    not hasattr(torch.random, "thread_safe_generator"), reason="this torch has no thread_safe_generator"
)
def test_a_workers_own_generator_draws_what_the_process_would() -> None:
    drawn = [
        plain(list(kind(Draws(), batch_size=4, num_workers=2, generator=rng())))
        for kind in (DataLoader, ThreadDataLoader)
    ]
    assert drawn[0] == drawn[1]


def test_pin_memory_without_an_accelerator_warns_as_torch_does() -> None:
    if torch.accelerator.is_available():
        pytest.skip("this machine has an accelerator: the warning is for machines without")
    for kind in (DataLoader, ThreadDataLoader):
        with pytest.warns(UserWarning, match="'pin_memory' argument is set as true but no accelerator is found"):
            list(kind(Rows(), pin_memory=True, num_workers=1))


def test_collated_tensors_take_no_shared_memory() -> None:
    assert not next(iter(ThreadDataLoader(Rows(), batch_size=4, num_workers=1)))["row"].is_shared()


def test_out_of_order_brings_every_batch_once() -> None:
    loader = ThreadDataLoader(
        Rows(), batch_size=3, num_workers=3, in_order=False, collate_fn=lambda rows: [r["name"] for r in rows]
    )
    assert sorted(int(name) for batch in loader for name in batch) == list(range(37))


def test_threads_that_start_later_keep_their_number_of_threads() -> None:
    import threading

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    found: list[int] = []
    try:
        list(ThreadDataLoader(Rows(), batch_size=3, num_workers=2))
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert found == [2] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
