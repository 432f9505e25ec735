"""Odd datasets, samplers and ways to use a loader: torch's with processes and ours with threads must tell the same.

Each case is a function of the loader's class that returns what was seen. Not compared are the words of an error after
its first line, and what is said of a worker that ended: a process has a number, a thread a name.
"""

from __future__ import annotations

import collections
import copy
import functools
import itertools
import os
import pickle
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the loader needs torch: install gilprobe[loader]")

from torch.utils.data import DataLoader, IterableDataset, get_worker_info  # noqa: E402 - torch may be missing

from gilprobe.loader import ThreadDataLoader  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:ThreadDataLoader. the workers share one dataset"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]

Kind = type[DataLoader]


class Mapped:
    """A dataset by a function of the index."""

    def __init__(self, length: int, item: Callable[[int], Any]) -> None:
        self.length, self.item = length, item

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


class Streamed(IterableDataset):
    def __init__(self, begin: Callable[[], Iterable[Any]]) -> None:
        self.begin = begin

    def __iter__(self) -> Iterator[Any]:
        return iter(self.begin())


class Cursor(IterableDataset):
    """Its own iterator: a second epoch goes on where the first ended."""

    def __init__(self) -> None:
        self.at = 0

    def __iter__(self) -> Cursor:
        return self

    def __next__(self) -> int:
        self.at += 1
        if self.at % 5 == 0:
            raise StopIteration
        return self.at


def described(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        data = value.to_dense() if value.layout is not torch.strided else value
        strides = value.stride() if value.layout is torch.strided else None
        return ("tensor", value.dtype, tuple(value.shape), strides, value.requires_grad, repr(data.sum().item()))
    if isinstance(value, np.ndarray):
        return (type(value).__name__, value.dtype, value.shape, value.tolist())
    if isinstance(value, dict):
        return (type(value).__name__, {key: described(part) for key, part in value.items()})
    if isinstance(value, list | tuple):
        return (type(value).__name__, [described(part) for part in value])
    return value


def told(error: BaseException) -> tuple[str, str]:
    first = (str(error).strip("'\"").replace("\\n", "\n").splitlines() or [""])[0]
    first = re.sub(r"worker (process|thread) \d+", "worker N", first)
    return type(error).__name__, "a worker ended" if "exited unexpectedly" in str(error) else first


def drained(loader: Iterable[Any], most: int = 20) -> list[Any]:
    """Every batch and every error until the end, as a consumer that catches errors sees them."""
    seen: list[Any] = []
    try:
        iterator = iter(loader)
    except Exception as error:
        return [told(error)]
    while len(seen) < most:
        try:
            seen.append(described(next(iterator)))
        except StopIteration as error:
            seen.append(told(error))
            break
        except Exception as error:
            seen.append(told(error))
    return seen


def over(dataset: Any, **options: Any) -> Callable[[Kind], Any]:
    def case(kind: Kind) -> Any:
        built = dataset() if isinstance(dataset, functools.partial) else dataset
        return drained(kind(built, **{"num_workers": 2, "batch_size": 2, **options}))

    return case


def raising(make: Callable[[], BaseException], at: int = 3) -> Any:
    def item(index: int) -> int:
        if index == at:
            raise make()
        return index

    return Mapped(8, item)


class KeywordOnly(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(code)


class WithMessage(Exception):
    message = "a class attribute"

    def __init__(self, message: str = "") -> None:
        super().__init__(message)


class RefusesToBeMade(Exception):
    def __init__(self, *arguments: Any) -> None:
        if arguments:
            raise ValueError("takes nothing")


def undecodable() -> BaseException:
    return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")


def endless() -> BaseException:
    def deeper() -> None:
        deeper()

    try:
        deeper()
    except RecursionError as error:
        return error
    raise AssertionError


ERRORS: dict[str, Callable[[], BaseException]] = {
    "keyword_only": lambda: KeywordOnly(code=3),
    "with_message": lambda: WithMessage("hello"),
    "refuses": RefusesToBeMade,
    "unicode": undecodable,
    "os_error": lambda: FileNotFoundError(2, "No such file", "a"),
    "key": lambda: KeyError("k"),
    "group": lambda: ExceptionGroup("several", [ValueError("1")]),
    "stop_iteration": StopIteration,
    "stop_async": lambda: StopAsyncIteration(1),
    "index": lambda: IndexError("out"),
    "recursion": endless,
    "not_implemented": NotImplementedError,
    "assertion": AssertionError,
    "memory": MemoryError,
    "generator_exit_within": lambda: RuntimeError("generator ignored GeneratorExit"),
}

BIG = 1 << 16  # from here on samples are laid into their batch as they come
Pair = collections.namedtuple("Pair", "image label")


def big(kind: str) -> Any:
    base = np.arange(BIG * 4, dtype=np.float32).reshape(4, 64, -1)
    tensors = {
        "channels_last": lambda i: torch.from_numpy(base + i)[None].contiguous(memory_format=torch.channels_last),
        "transposed": lambda i: torch.from_numpy(base + i).transpose(0, 2),
        "expanded": lambda i: torch.full((1, 1), float(i)).expand(300, 300),
        "requires_grad": lambda i: torch.from_numpy(base + i).requires_grad_(),
        "conj": lambda i: torch.complex(torch.from_numpy(base), torch.from_numpy(base)).conj(),
        "bfloat16": lambda i: torch.from_numpy(base).to(torch.bfloat16),
        "sparse": lambda i: torch.eye(300).to_sparse(),
        "parameter": lambda i: torch.nn.Parameter(torch.from_numpy(base)),
        "mixed_shapes": lambda i: torch.zeros(BIG + i % 2),
        "mixed_dtypes": lambda i: torch.zeros(BIG, dtype=torch.float32 if i % 2 else torch.float64),
        "mixed_kinds": lambda i: torch.zeros(BIG) if i % 2 else np.zeros(BIG, np.float32),
        "then_none": lambda i: torch.zeros(BIG) if i % 2 == 0 else None,
    }
    arrays = {
        "fortran": lambda i: np.asfortranarray(base + i),
        "reversed": lambda i: (base + i)[::-1],
        "big_endian": lambda i: (base + i).astype(">f4"),
        "complex": lambda i: (base + i).astype(np.complex64),
        "uint16": lambda i: (base % 7).astype(np.uint16),
        "objects": lambda i: np.full(BIG, None),
        "texts": lambda i: np.full(BIG, "ab"),
        "masked": lambda i: np.ma.masked_array(base + i, base % 2 == 0),
        "pair": lambda i: Pair(base + i, i),
        "tuple": lambda i: (base + i, i, "x"),
        "uneven_tuples": lambda i: (base + i,) * (1 + i % 2),
        "dict": lambda i: {"image": base + i, "label": i},
        "one_then_tuple": lambda i: base if i % 2 == 0 else (base,),
    }
    return Mapped(5, {**tensors, **arrays}[kind])


BIGS = [
    *("channels_last", "transposed", "expanded", "bfloat16", "sparse"),
    *("mixed_shapes", "mixed_dtypes", "mixed_kinds", "fortran", "reversed", "big_endian", "complex"),
    *("uint16", "objects", "texts", "masked", "pair", "tuple", "uneven_tuples", "dict", "one_then_tuple"),
]


def fails_midway() -> Iterator[int]:
    yield 1
    yield 2
    raise ValueError("midway")


def bad_sampler(after: int) -> Iterator[int]:
    yield from range(after)
    raise LookupError("sampler")


def is_never_called(index: int) -> int:
    raise AssertionError(index)


def init_fails(worker_id: int) -> None:
    if worker_id == 1:
        raise ValueError("init")


def two_at_once(kind: Kind) -> Any:
    loader = kind(range(9), batch_size=2, num_workers=2)
    return list(zip(map(described, loader), map(described, loader), strict=True))


def abandoned(persistent: bool) -> Callable[[Kind], Any]:
    def case(kind: Kind) -> Any:
        loader = kind(range(20), batch_size=2, num_workers=2, persistent_workers=persistent)
        seen = []
        for taken in (1, 3, 0):
            iterator = iter(loader)
            seen += [described(batch) for batch in itertools.islice(iterator, taken)]
            del iterator
        return [*seen, *drained(loader)]

    return case


def after_the_end(persistent: bool) -> Callable[[Kind], Any]:
    def case(kind: Kind) -> Any:
        iterator = iter(kind(range(3), batch_size=2, num_workers=2, persistent_workers=persistent))
        first = drained(iterator)
        return [first, drained(iterator), drained(iterator), len(iterator)]  # type: ignore[arg-type]

    return case


def pickled(when: str) -> Callable[[Kind], Any]:
    def case(kind: Kind) -> Any:
        loader = kind(list(range(5)), batch_size=2, num_workers=1)
        if when == "after":
            drained(loader)
        copies = [pickle.loads(pickle.dumps(loader)), copy.copy(loader), copy.deepcopy(loader)]
        return [drained(one) for one in copies]

    return case


def pickled_iterator(kind: Kind) -> Any:
    try:
        pickle.dumps(iter(kind(range(5), num_workers=1)))
    except Exception as error:
        return type(error).__name__
    return "pickled"


def in_a_forked_child(kind: Kind, **options: Any) -> Any:
    """A loader that was used before is used anew by a child."""
    loader = kind(range(6), batch_size=2, num_workers=2, **options)
    drained(loader)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os.write(write, repr(drained(loader)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        said = answer.read()
    return said, os.waitpid(child, 0)[1]


def out_of_order(kind: Kind) -> Any:
    return sorted(str(batch) for batch in drained(kind(range(9), batch_size=2, num_workers=3, in_order=False)))


def after_a_timeout(kind: Kind) -> Any:
    """Asked again after the timeout, the batch that was late comes."""
    slow = Mapped(1, lambda index: (threading.Event().wait(1.5 if index == 0 else 0), index)[1])
    return drained(kind(slow, num_workers=1, timeout=1))


def seen_by_workers(kind: Kind) -> Any:
    def item(index: int) -> Any:
        info = get_worker_info()
        return (info.id, info.num_workers, len(info.dataset), info.seed)

    loader = kind(Mapped(6, item), num_workers=2, batch_size=1, generator=torch.Generator().manual_seed(7))
    return drained(loader) + drained(loader), get_worker_info()


CASES: dict[str, Callable[[Kind], Any]] = {
    **{f"raises_{name}": over(functools.partial(raising, make)) for name, make in ERRORS.items()},
    **{f"big_{name}": over(functools.partial(big, name)) for name in BIGS},
    "empty_map": over([]),
    "empty_map_shuffled": over(Mapped(0, is_never_called), sampler=[]),
    "empty_iterable": over(Streamed(list)),
    "empty_batch_sampler": over(range(4), batch_sampler=[], batch_size=1),
    "empty_batches": over(range(4), batch_sampler=[[0], [], [1]], batch_size=1),
    "no_batches": over([np.arange(3), 2.5, "a", b"b", None, (1, [2])], batch_size=None),
    "no_batches_iterable": over(Streamed(lambda: [1, "a", np.float32(2)]), batch_size=None),
    "no_batches_lists": over(range(9), batch_size=None, sampler=[1, 2, 3]),
    "tensor_batches": over([5, 6, 7, 8], batch_sampler=[torch.tensor([1, 3]), np.array([0])], batch_size=1),
    "tuple_batches": over([5, 6, 7, 8], batch_sampler=[(1, 3), {0}, {2: "x"}], batch_size=1),
    "text": over("abcdef"),
    "table": over({"a": 1, "b": 2}, sampler=["b", "a"]),
    "bytes": over(b"abcdef", drop_last=True, batch_size=4),
    "nones": over([1, None, 2, None]),
    "none_first": over([None, 1]),
    "uneven": over([[1], [1, 2]]),
    "tensors_uneven": over([torch.zeros(1), torch.zeros(2)]),
    "mixed": over([1, 2.5, 3, "a"]),
    "floats_and_ints": over([1, 2.5]),
    "decimals": over([{1}, {2}]),
    "pairs": over([Pair(1, "a"), Pair(2, "b")]),
    "ordered": over([collections.OrderedDict(a=1), collections.OrderedDict(a=2)]),
    "defaults": over([collections.defaultdict(int, a=1), collections.defaultdict(int, a=2)]),
    "missing_keys": over([{"a": 1, "b": 2}, {"a": 1}]),
    "zero_dim": over([np.array(1), np.array(2)]),
    "scalars": over([np.float32(1), np.int8(2)]),
    "read_only": over([np.broadcast_to(np.arange(3.0), (2, 3))] * 2),
    "fails_midway": over(Streamed(fails_midway)),
    "fails_midway_one_by_one": over(Streamed(fails_midway), batch_size=None),
    # torch tells the second time of a variable of its own that was not set.
    "cannot_begin": lambda kind: drained(kind(Streamed(lambda: 3), num_workers=2), most=2),  # type: ignore[arg-type,return-value]
    "sampler_fails_at_once": over(range(9), sampler=Streamed(lambda: bad_sampler(0))),
    "sampler_fails_later": over(range(99), sampler=Streamed(lambda: bad_sampler(15))),
    "sampler_beyond": over(range(3), sampler=[0, 5, 1]),
    "sampler_odd": over([4, 5, 6], sampler=[-1, True, np.int64(1)]),
    "endless_sampler": lambda kind: drained(kind(range(9), sampler=itertools.cycle([1, 2]), num_workers=2), most=7),
    "cursor": lambda kind: [drained(loader := kind(Cursor(), batch_size=2, num_workers=2)), drained(loader)],
    "cursor_persistent": lambda kind: [
        drained(loader := kind(Cursor(), batch_size=2, num_workers=2, persistent_workers=True)),
        drained(loader),
    ],
    "collate_fails": over(range(4), collate_fn=lambda samples: 1 // (samples[0] - 2)),
    "collate_none": over(range(4), collate_fn=lambda samples: None),
    "more_workers": over(range(2), num_workers=4, batch_size=1),
    "init_fails": lambda kind: drained(kind(range(2), num_workers=2, worker_init_fn=init_fails)),
    "two_at_once": two_at_once,
    "abandoned": abandoned(False),
    "abandoned_persistent": abandoned(True),
    "after_the_end": after_the_end(False),
    "after_the_end_persistent": after_the_end(True),
    "pickled_before": pickled("before"),
    "pickled_after": pickled("after"),
    "pickled_iterator": pickled_iterator,
    "in_a_forked_child": in_a_forked_child,
    "out_of_order": out_of_order,
    "after_a_timeout": after_a_timeout,
    "seen_by_workers": seen_by_workers,
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_is_seen_of(case: str) -> None:
    theirs = CASES[case](DataLoader)
    assert CASES[case](ThreadDataLoader) == theirs


@pytest.mark.parametrize("kind", ["requires_grad", "conj", "parameter", "then_none"])
def test_what_no_process_can_send_comes_as_without_workers(kind: str) -> None:
    theirs = drained(DataLoader(big(kind), batch_size=2))
    ours = drained(ThreadDataLoader(big(kind), batch_size=2, num_workers=2))
    if kind == "then_none":
        theirs = [("TypeError", "Caught TypeError in DataLoader worker N.")] if theirs[0][0] == "TypeError" else []
        ours = ours[:1]
    assert ours == theirs


def test_persistent_workers_are_started_anew_in_a_forked_child() -> None:
    assert in_a_forked_child(ThreadDataLoader, persistent_workers=True) == in_a_forked_child(DataLoader)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_a_process_is_an_error_here_and_tells_its_cause(error: type[BaseException]) -> None:
    """torch says after five seconds that a process ended; the consumer of threads is told at once, and of the cause."""
    loader = ThreadDataLoader(raising(error), batch_size=2, num_workers=2)
    kinds = [batch[0] for batch in drained(loader)]
    assert kinds.count("RuntimeError") == 1 and kinds.count("tensor") == 3, kinds
    with pytest.raises(RuntimeError, match=error.__name__):
        list(loader)
