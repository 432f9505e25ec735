"""What our own loader promises, as scenarios that the explorer interleaves: one consumer, workers of the loader's own.

Each scenario is made for a copy of the loader (`modules`: by name), so that mutants of it can be judged by them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch.utils.data

Modules = dict[str, ModuleType]


@dataclass(frozen=True)
class Scenario:
    """`state()` makes what the bodies share; `final` raises on a bad end."""

    name: str
    state: Callable[[], Any]
    bodies: tuple[Callable[[Any], None], ...]
    final: Callable[[Any], None] | None = None


class Numbers(torch.utils.data.Dataset[int]):
    """Sample `bad` raises, `slow` never comes; with `pause` each takes a moment.

    Notes who reads samples below `until` once `stopped` is set.
    """

    def __init__(self, length: int, bad: int = -1, slow: int = -1, pause: bool = False) -> None:
        self.length, self.bad, self.slow, self.pause = length, bad, slow, pause
        self.stopped = False
        self.until = 1000
        self.after: list[str] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        if self.stopped and index < self.until:
            self.after.append(threading.current_thread().name)
        if self.pause:
            time.sleep(0.01)
        if index == self.slow:
            threading.Event().wait()
        if index == self.bad:
            raise ValueError(f"sample {index}")
        return index


class Streams(torch.utils.data.IterableDataset[int]):
    """Worker 0 has one sample, worker 1 has `long`."""

    def __init__(self, long: int) -> None:
        self.long = long

    def __iter__(self) -> Iterator[int]:
        info: Any = torch.utils.data.get_worker_info()  # type: ignore[no-untyped-call, unused-ignore]
        return iter([0] if info.id == 0 else range(10, 10 + self.long))


class Rising:
    """A sampler whose second pass begins at 100."""

    def __init__(self) -> None:
        self.start = -100

    def __iter__(self) -> Iterator[int]:
        self.start += 100
        return iter(range(self.start, self.start + 8))

    def __len__(self) -> int:
        return 8


class Again(torch.utils.data.IterableDataset[int]):
    """A stream that has `count` samples and, asked once more after its end, begins again."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[int]:
        return _Again(self.count)


class _Again(Iterator[int]):
    def __init__(self, count: int) -> None:
        self.count = count
        self.at = 0

    def __next__(self) -> int:
        self.at += 1
        if self.at == self.count + 1 or self.at > self.count + 3:
            raise StopIteration
        return self.at


class Watched(torch.utils.data.IterableDataset[int]):
    """An endless stream that notes, as Numbers does, who reads on."""

    def __init__(self) -> None:
        self.stopped = False
        self.after: list[str] = []

    def __iter__(self) -> Iterator[int]:
        for number in range(40):
            if self.stopped:
                self.after.append(threading.current_thread().name)
            time.sleep(0.01)
            yield number


def _plain(samples: Any) -> Any:
    return samples


class Loading:
    """A loader, what its consumer got, and its workers' threads."""

    def __init__(self, modules: Modules, dataset: Any, **options: Any) -> None:
        self.modules = modules
        self.dataset = dataset
        self.got: list[Any] = []
        self.threads: list[threading.Thread] = []
        self.error: BaseException | None = None
        self.iterator: Any = None
        self.cause = "exited unexpectedly"
        options = {"num_workers": 2, "isolate": "share", "collate_fn": _plain, "prefetch_factor": 1, **options}
        if "sampler" in options:
            options["sampler"] = options["sampler"]()
        self.loader = modules["dataloader"].ThreadDataLoader(dataset, **options)

    def begin(self) -> Any:
        iterator = iter(self.loader)
        self.threads = [worker.thread for worker in iterator._workers]
        return iterator

    def ended(self) -> None:
        left = [thread.name for thread in self.threads if thread.is_alive()]
        assert not left, f"{left} still run"


def _read_all(loading: Loading) -> None:
    for batch in loading.begin():
        loading.got.append(batch)


def _same(wanted: list[Any], ordered: bool = True) -> Callable[[Loading], None]:
    def final(loading: Loading) -> None:
        got = loading.got if ordered else sorted(loading.got)
        assert got == wanted, f"got {got}, not {wanted}"
        loading.ended()

    return final


def _two_epochs(loading: Loading) -> None:
    loading.got.append(next(loading.begin()))
    loading.got += list(iter(loading.loader))
    loading.loader._thread_iterator.shutdown()


def _read_two(loading: Loading) -> None:
    iterator = loading.begin()
    loading.got += [next(iterator), next(iterator)]


def _past_the_slow_one(loading: Loading) -> None:
    assert loading.got == [[1], [2]], f"got {loading.got}"


def _two_whole_epochs(loading: Loading) -> None:
    loading.got += list(loading.begin())
    loading.got += list(iter(loading.loader))
    loading.loader._thread_iterator.shutdown()


def _break_off(loading: Loading) -> None:
    iterator = loading.begin()
    next(iterator)
    iterator.shutdown(join_s=0.0)
    loading.dataset.stopped = True
    loading.iterator = iterator
    for thread in loading.threads:
        thread.join(5)


def _broken_off(loading: Loading) -> None:
    loading.ended()
    _at_most_one_each(loading)
    results = loading.iterator._job.results
    died = loading.modules["worker"].Died
    while results.qsize():
        assert not isinstance(results.get()[-1], died), "a worker that was told to end says that it died"


def _at_most_one_each(loading: Loading) -> None:
    """A worker may have been past its check."""
    after = loading.dataset.after
    assert len(after) == len(set(after)), f"workers went on to read: {after}"


def _next_epoch(loading: Loading) -> None:
    next(loading.begin())
    iterator = iter(loading.loader)
    loading.dataset.until = 100
    loading.dataset.stopped = True
    loading.got += list(iterator)
    iterator.shutdown()


def _only_the_second(loading: Loading) -> None:
    _at_most_one_each(loading)
    assert loading.got == list(range(100, 108)), f"got {loading.got}"


def _stop_and_wait(loading: Loading) -> None:
    iterator = loading.begin()
    next(iterator)
    iterator.shutdown()
    loading.ended()


def _stop_twice(loading: Loading) -> None:
    iterator = loading.begin()
    iterator.shutdown()
    before = time.monotonic()
    iterator.shutdown()
    assert time.monotonic() - before < 0.25, "the second shutdown waits again"


def _exit(loading: Loading) -> None:
    next(loading.begin())
    loading.modules["iterator"]._stop_all()
    loading.ended()


def _reset_after_the_end(loading: Loading) -> None:
    iterator = loading.begin()
    iterator.shutdown()
    try:
        iterator.reset(loading.loader)
    except RuntimeError as error:
        loading.error = error


def _failing(loading: Loading) -> None:
    iterator = loading.begin()
    while True:
        try:
            loading.got.append(next(iterator))
        except StopIteration:
            return
        except Exception as error:
            if len(loading.got) > 9:
                raise
            loading.got.append([type(error).__name__])


def _dying(loading: Loading) -> None:
    """Goes on past each worker's death, as a caller may."""
    iterator = loading.begin()
    for _ in range(20):
        try:
            loading.got.append(next(iterator))
        except StopIteration:
            break
        except RuntimeError as error:
            loading.got.append("died" if loading.cause in str(error) else str(error))
    iterator.shutdown()


def _dead_once(loading: Loading) -> None:
    assert loading.got.count("died") == 1, f"got {loading.got}"
    assert all(item == "died" or len(item) == 1 for item in loading.got), f"got {loading.got}"
    batches = [item for item in loading.got if item != "died"]
    assert batches == sorted(batches) and len(batches) >= 2, f"got {batches}"
    loading.ended()


def _timing_out(loading: Loading) -> None:
    try:
        _read_all(loading)
    except RuntimeError as error:
        loading.error = error


def _timed_out(loading: Loading) -> None:
    assert loading.error is not None and "timed out" in str(loading.error), f"{loading.error!r}, got {loading.got}"


def _raised(loading: Loading) -> None:
    assert isinstance(loading.error, RuntimeError), repr(loading.error)


class Watching:
    """Two workers that write one object of a shared dataset."""

    def __init__(self, modules: Modules) -> None:
        writes = modules["writes"]
        self.watch = writes.WriteWatch.__new__(writes.WriteWatch)
        self.watch._lock = threading.Lock()
        self.watch._first, self.watch._found = {}, {}
        self.told = 0
        self.seen: list[int] = []
        self.modules = modules
        writes.warnings = self  # type: ignore[attr-defined]

    def warn(self, *_: Any, **__: Any) -> None:
        self.told += 1

    def write(self, worker_id: int) -> None:
        self.modules["worker_info"].set_worker_info(_Info(worker_id))
        self.watch.note("dataset.cache")
        self.watch.note("dataset.cache")
        self.seen.append(len(self.watch.found))

    def write_as_owner(self) -> None:
        """No worker's thread: what the dataset's owner writes is nobody's race."""
        self.watch.note("dataset.cache")


class _Info:
    def __init__(self, worker_id: int) -> None:
        self.id = worker_id


def _found_once(watching: Watching) -> None:
    assert len(watching.watch.found) == 1, "two workers wrote it and nobody was told"
    (found,) = watching.watch.found
    assert sorted(found.workers) == [0, 1], f"workers {found.workers}"
    assert max(watching.seen) == 1
    assert watching.told == 1, f"told {watching.told} times"


def _nobody_told(watching: Watching) -> None:
    assert watching.told == len(watching.watch.found) == 0, f"told {watching.told} times"


def _told_once(watching: Watching) -> None:
    assert watching.told == len(watching.watch.found) == 1, f"told {watching.told} times"


class Touching:
    """Two consumers that begin at once: the cost of a fault is measured by one of them."""

    def __init__(self, modules: Modules) -> None:
        self.module: Any = modules["fault_cost"]
        self.module._measured = False
        self.count = 0
        self.module.mmap = _Memory(self)
        self.module.spans = _Recorder()

    def measure(self) -> None:
        self.module.measure_once()


class _Memory:
    """Stands where fault_cost looks for mmap: counts what is mapped."""

    PAGESIZE = 4096

    def __init__(self, touching: Touching) -> None:
        self.touching = touching

    def mmap(self, *_: Any) -> Any:
        self.touching.count += 1
        raise InterruptedError


class _Recorder:
    def connected(self) -> bool:
        return True


def _measure(touching: Touching) -> None:
    try:
        touching.measure()
    except InterruptedError:
        return


def _measured_once(touching: Touching) -> None:
    assert touching.count == 1, f"measured {touching.count} times"


def forget(modules: Modules) -> None:
    """Iterators of earlier schedules, which nobody has collected yet."""
    for left in (modules["iterator"]._live, modules["iterator"]._threads):
        left.clear()


def scenarios(modules: Modules) -> list[Scenario]:
    def loading(dataset: Callable[[], Any], **options: Any) -> Callable[[], Loading]:
        return lambda: Loading(modules, dataset(), **options)

    def dying(kind: str) -> Callable[[], Loading]:
        def state() -> Loading:
            worker: Any = modules["worker"]
            enter, run = worker.__dict__.setdefault("_own", (worker.enter_worker, worker._run))
            worker.enter_worker, worker._run = enter, run
            taken: queue.SimpleQueue[int] = queue.SimpleQueue()
            taken.put(0)

            def fail(watch: Any) -> None:
                if taken.qsize():
                    taken.get()
                    worker.enter_worker = enter
                    raise MemoryError("no room for a worker")

            def vanish(job: Any, worker_id: int, *rest: Any) -> None:
                if worker_id:
                    run(job, worker_id, *rest)

            if kind == "fails":
                worker.enter_worker = fail
            else:
                worker._run = vanish
            loading = Loading(modules, Numbers(4), timeout=0 if kind == "vanishes" else 3)
            if kind == "fails":
                loading.cause = "no room for a worker"
            return loading

        return state

    def plain(state: Callable[[], Any]) -> Callable[[], Any]:
        def fresh() -> Any:
            worker: Any = modules["worker"]
            if "_own" in worker.__dict__:
                worker.enter_worker, worker._run = worker._own
            forget(modules)
            return state()

        return fresh

    three = [[0], [1], [2]]
    return [
        Scenario("in order", plain(loading(lambda: Numbers(3), timeout=1)), (_read_all,), _same(three)),
        Scenario("any order", plain(loading(lambda: Numbers(3), timeout=1, in_order=False)), (_read_all,),
                 _same(three, ordered=False)),
        Scenario("past a slow one", plain(loading(lambda: Numbers(4, slow=0), timeout=1, in_order=False)),
                 (_read_two,), _past_the_slow_one),
        Scenario("streams", plain(loading(lambda: Streams(2), timeout=1, batch_size=1)), (_read_all,),
                 _same([[0], [10], [11]], ordered=False)),
        Scenario("long stream", plain(loading(lambda: Streams(3), timeout=1, batch_size=2, drop_last=True)),
                 (_read_all,), _same([[10, 11]], ordered=False)),
        Scenario("second epoch", plain(loading(lambda: Numbers(3), timeout=1, persistent_workers=True)),
                 (_two_epochs,), _same([[0], *three])),
        Scenario("second stream", plain(loading(lambda: Streams(1), timeout=1, persistent_workers=True)),
                 (_two_epochs,), _same([[0], [0], [10]])),
        Scenario("two whole streams", plain(loading(lambda: Streams(1), timeout=1, persistent_workers=True,
                 prefetch_factor=2)), (_two_whole_epochs,), _same([[0], [0], [10], [10]], ordered=False)),
        Scenario("stream that begins again", plain(loading(lambda: Again(1), timeout=1, batch_size=None,
                 prefetch_factor=3)), (_read_all,), _same([1, 1], ordered=False)),
        Scenario("batches that begin again", plain(loading(lambda: Again(1), timeout=1, batch_size=2,
                 prefetch_factor=2)), (_read_all,), _same([[1], [1]], ordered=False)),
        Scenario("broken off", plain(loading(lambda: Numbers(12, pause=True), timeout=1, batch_size=3,
                 prefetch_factor=2)),
                 (_break_off,), _broken_off),
        Scenario("samples broken off", plain(loading(lambda: Numbers(12, pause=True), timeout=1, batch_size=None,
                 prefetch_factor=3)), (_break_off,), _broken_off),
        Scenario("stream broken off", plain(loading(Watched, timeout=1, batch_size=3, prefetch_factor=2)),
                 (_break_off,), _broken_off),
        Scenario("next epoch", plain(loading(lambda: Numbers(8, pause=True), timeout=1, batch_size=None,
                 prefetch_factor=3, sampler=Rising, persistent_workers=True)), (_next_epoch,), _only_the_second),
        Scenario("waits for its workers", plain(loading(lambda: Numbers(4), timeout=1)), (_stop_and_wait,)),
        Scenario("shut down twice", plain(loading(lambda: Numbers(4, slow=0), timeout=1)), (_stop_twice,)),
        Scenario("exit", plain(loading(lambda: Numbers(4), timeout=1)), (_exit,), Loading.ended),
        Scenario("reset after the end",
                 plain(loading(lambda: Numbers(3), timeout=1, persistent_workers=True)), (_reset_after_the_end,),
                 _raised),
        Scenario("failing sample", plain(loading(lambda: Numbers(3, bad=1), timeout=1)), (_failing,),
                 _same([[0], ["ValueError"], [2]])),
        Scenario("slow sample", plain(loading(lambda: Numbers(3, slow=1), timeout=1)), (_timing_out,), _timed_out),
        Scenario("a worker fails to begin", dying("fails"), (_dying,), _dead_once),
        Scenario("a worker vanishes", dying("vanishes"), (_dying,), _dead_once),
        Scenario("writes", lambda: Watching(modules), (_write_0, _write_1), _found_once),
        Scenario("writes of the owner", lambda: Watching(modules), (_write_0, Watching.write_as_owner), _nobody_told),
        Scenario("writes of three", lambda: Watching(modules), (_write_0, _write_1, _write_2), _told_once),
        Scenario("fault cost", lambda: Touching(modules), (_measure, _measure), _measured_once),
    ]  # fmt: skip


def _write_0(watching: Watching) -> None:
    watching.write(0)


def _write_1(watching: Watching) -> None:
    watching.write(1)


def _write_2(watching: Watching) -> None:
    watching.write(2)
