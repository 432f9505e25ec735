"""Seeded, budgeted campaigns over code that ships, each with a planted twin that must be found.

A campaign is quiet when its subject shows nothing and its twin fails: a suite that never fires proves nothing. Subjects
that run under control are explored; C extensions are hammered in a child process.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import logging
import queue
import random
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from gilprobe.explore import Result, hammer, run


@dataclass(frozen=True)
class Campaign:
    """`subject` and `planted` explore or hammer within a budget (s) from a seed."""

    name: str
    subject: Callable[[float, int], Result]
    planted: Callable[[float, int], Result]
    needs: str | None = None  # a module without which it is skipped


# -- queue.Queue, explored: its own code has change points


class Pipe:
    def __init__(self, kind: type[queue.Queue[int]] = queue.Queue) -> None:
        self.queue = kind(1)
        self.got: list[int] = []

    def put(self) -> None:
        for item in (1, 2):
            self.queue.put(item)

    def take(self) -> None:
        for _ in range(2):
            self.got.append(self.queue.get())


class ForgetfulQueue(queue.Queue[int]):
    """get() without its notify of the putters."""

    def get(self, block: bool = True, timeout: float | None = None) -> int:
        with self.not_empty:
            while not self._qsize():
                self.not_empty.wait()
            return self._get()


def _in_order(pipe: Pipe) -> None:
    assert pipe.got == [1, 2]


def explore_queue(kind: type[queue.Queue[int]], budget_s: float, seed: int) -> Result:
    return run(Pipe.put, Pipe.take, state=lambda: Pipe(kind), final=_in_order, budget_s=budget_s, seed=seed)


# -- logging, explored


class Lines(logging.Handler):
    """Counts what it is given; without its lock the count is a race."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


class UnlockedLines(Lines):
    def handle(self, record: logging.LogRecord) -> bool:
        self.emit(record)
        return True


class Logged:
    def __init__(self, kind: type[Lines]) -> None:
        self.handler = kind()
        self.logger = logging.Logger("stress")
        self.logger.addHandler(self.handler)

    def log(self) -> None:
        self.logger.warning("said")


def _two_lines(logged: Logged) -> None:
    assert logged.handler.count == 2


def explore_logging(kind: type[Lines], budget_s: float, seed: int) -> Result:
    return run(Logged.log, Logged.log, state=lambda: Logged(kind), final=_two_lines, budget_s=budget_s, seed=seed)


# -- functools.lru_cache, dict and list, hammered


@functools.lru_cache(maxsize=8)
def _squared(number: int) -> int:
    return number * number


def hammer_lru(number: int) -> None:
    wanted = random.randrange(16)
    assert _squared(wanted) == wanted * wanted


class HandmadeCache:
    """A bounded cache with the test and the eviction apart."""

    items: ClassVar[dict[int, int]] = {}

    @classmethod
    def squared(cls, number: int) -> int:
        if number not in cls.items:
            if len(cls.items) >= 4:
                for key in cls.items:
                    del cls.items[key]
                    break
            cls.items[number] = number * number
        return cls.items[number]


def hammer_handmade(number: int) -> None:
    for _ in range(50):
        wanted = random.randrange(16)
        assert HandmadeCache.squared(wanted) == wanted * wanted


_shared_dict: dict[int, int] = {}
_shared_list: list[int] = []
_meeting = threading.Lock()


def hammer_dict(number: int) -> None:
    for turn in range(50):
        _shared_dict[number * 1000 + turn] = turn
        assert _shared_dict.pop(number * 1000 + turn) == turn


def hammer_dict_wrongly(number: int) -> None:
    for turn in range(50):
        _shared_dict[turn % 4] = turn
        for _key in _shared_dict:
            pass
        _shared_dict.pop(turn % 4, None)


def hammer_list(number: int) -> None:
    for turn in range(50):
        _shared_list.append(turn)
        _shared_list.pop()


def hammer_list_wrongly(number: int) -> None:
    for turn in range(50):
        if not _shared_list:
            _shared_list.append(turn)
        if _shared_list:
            _shared_list.pop()


# -- C extensions, where they are installed


def _encoded() -> bytes:
    from PIL import Image  # type: ignore[import-not-found, unused-ignore]

    out = io.BytesIO()
    Image.new("RGB", (64, 64), (1, 2, 3)).save(out, "JPEG")
    return out.getvalue()


def hammer_pillow(number: int) -> None:
    from PIL import Image

    image = Image.open(io.BytesIO(_encoded()))
    assert image.resize((16, 16)).size == (16, 16)


class SharedImage:
    image: Any = None


def hammer_shared_image(number: int) -> None:
    """One lazily loaded Image for all threads: its file is read and closed under the others."""
    from PIL import Image

    with _meeting:
        if SharedImage.image is None or random.random() < 0.2:
            SharedImage.image = Image.open(io.BytesIO(_encoded()))
        image = SharedImage.image
    image.load()
    assert image.getpixel((0, 0)) is not None


class LoadedImage:
    image: Any = None


def hammer_loaded_image(number: int) -> None:
    """One Image for all threads, loaded before they share it."""
    from PIL import Image

    with _meeting:
        if LoadedImage.image is None or random.random() < 0.2:
            fresh = Image.open(io.BytesIO(_encoded()))
            fresh.load()
            LoadedImage.image = fresh
        image = LoadedImage.image
    assert len(image.resize((16, 16)).tobytes()) == 16 * 16 * 3
    assert len(image.convert("L").tobytes()) == 64 * 64


_encodings: dict[str, bytes] = {}


def _encodings_made() -> dict[str, bytes]:
    from PIL import Image

    with _meeting:
        if not _encodings:
            for kind in ("JPEG", "PNG", "GIF", "TIFF", "PPM"):
                out = io.BytesIO()
                Image.new("RGB", (8, 8)).save(out, kind)
                _encodings[kind] = out.getvalue()
    return _encodings


def hammer_plugins(number: int) -> None:
    """Each opening may be the one that loads Pillow's plugins: now and then it is made to begin again."""
    from PIL import Image

    encodings = _encodings_made()
    kind = random.choice(list(encodings))
    if random.random() < 0.05:
        Image._initialized = 0
    assert Image.open(io.BytesIO(encodings[kind])).format == kind


class Registry:
    """Plugins loaded at first use, but said to be there before they are."""

    ready = False
    plugins: ClassVar[dict[str, int]] = {}

    @classmethod
    def find(cls, name: str) -> int:
        if not cls.ready:
            cls.ready = True
            for number, each in enumerate("abcdef"):
                cls.plugins[each] = number
        return cls.plugins[name]


def hammer_registry(number: int) -> None:
    for _ in range(50):
        if random.random() < 0.1:
            with _meeting:
                Registry.plugins = {}
                Registry.ready = False
        Registry.find(random.choice("abcdef"))


def _decoder() -> Any:
    from nvidia import nvimgcodec  # type: ignore[import-not-found, import-untyped, unused-ignore]

    return nvimgcodec.Decoder(
        device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY,
        backends=[nvimgcodec.Backend(nvimgcodec.CPU_ONLY)],
        max_num_cpu_threads=1,
    )


_local = threading.local()


def hammer_decoder(number: int) -> None:
    if not hasattr(_local, "decoder"):
        _local.decoder = _decoder()
    assert _local.decoder.decode(_encoded()) is not None


class SharedDecoder:
    decoder: Any = None


def hammer_shared_decoder(number: int) -> None:
    with _meeting:
        if SharedDecoder.decoder is None:
            SharedDecoder.decoder = _decoder()
    assert SharedDecoder.decoder.decode(_encoded()) is not None


# -- our own loader, explored, and its queues: the planted twin lacks one lock, or one put


def explore_loader(module: str, removed: str, scenarios: str, budget_s: float, seed: int) -> Result:
    """The loader's scenarios of that name on a copy of it. removed: what is taken out of it, "" for nothing."""
    from stress import mutants

    mutant = next(m for m in mutants.mutants() if (m.module, m.removed) == (module, removed)) if removed else None
    logging.disable()
    try:
        with tempfile.TemporaryDirectory() as folder:
            sys.path.insert(0, folder)
            modules = mutants.copied(Path(folder), f"loader_{module}_{'wrong' if removed else 'right'}", mutant)
            failed, how, runs = mutants.judge(modules, budget_s, seed, 200, scenarios)
            sys.path.remove(folder)
    finally:
        logging.disable(logging.NOTSET)
    if failed is None:
        return Result("NOT_FOUND", schedules=runs, seed=seed)
    return Result("FAILED", how.split(":")[0], schedules=runs, seed=seed, story=f"{failed}: {how}")


def _loader(module: str, removed: str, scenarios: str) -> tuple[Callable[[float, int], Result], ...]:
    return tuple(functools.partial(explore_loader, module, each, scenarios) for each in ("", removed))


def _hammered(fn: Callable[[int], None]) -> Callable[[float, int], Result]:
    return lambda budget_s, seed: hammer(fn, budget_s=budget_s, seed=seed)


CAMPAIGNS = [
    Campaign("gilprobe.loader", *_loader("fault_cost", "_lock", "fault cost"), needs="torch"),
    Campaign(
        "gilprobe.loader, its queues",
        *_loader("worker", "results.put((task.epoch, task.number, worker_id, data))", "in order"),
        needs="torch",
    ),
    Campaign(
        "queue.Queue", functools.partial(explore_queue, queue.Queue), functools.partial(explore_queue, ForgetfulQueue)
    ),
    Campaign("logging", functools.partial(explore_logging, Lines), functools.partial(explore_logging, UnlockedLines)),
    Campaign("functools.lru_cache", _hammered(hammer_lru), _hammered(hammer_handmade)),
    Campaign("dict", _hammered(hammer_dict), _hammered(hammer_dict_wrongly)),
    Campaign("list", _hammered(hammer_list), _hammered(hammer_list_wrongly)),
    Campaign("Pillow", _hammered(hammer_pillow), _hammered(hammer_shared_image), needs="PIL"),
    Campaign("Pillow, a shared Image", _hammered(hammer_loaded_image), _hammered(hammer_shared_image), needs="PIL"),
    Campaign("Pillow, lazy plugins", _hammered(hammer_plugins), _hammered(hammer_registry), needs="PIL"),
    Campaign(
        "nvImageCodec on the CPU", _hammered(hammer_decoder), _hammered(hammer_shared_decoder), "nvidia.nvimgcodec"
    ),
]  # fmt: skip


def measure_all(budget_s: float, loader: bool, seed: int = 0) -> dict[str, Any]:
    """By campaign: what the subject and its planted twin showed. `quiet`: nothing, and a failure.

    loader: those over our own loader, which need torch; else the others.
    """
    rows: dict[str, Any] = {}
    for campaign in CAMPAIGNS:
        if (campaign.needs == "torch") != loader:
            continue
        lacking = missing(campaign)
        if lacking is not None:
            rows[campaign.name] = {"skipped": f"{lacking} is not installed"}
            print(f"SKIPPED {campaign.name}: {lacking} is not installed", flush=True)
            continue
        planted = campaign.planted(budget_s, seed)
        subject = campaign.subject(budget_s, seed)
        quiet = subject.verdict in ("EXHAUSTED", "NOT_FOUND") and planted.verdict in ("FAILED", "UNCONTROLLED")
        rows[campaign.name] = {
            "seed": seed, "budget_s": budget_s, "quiet": quiet, "planted": _row(planted),
            "subject": {**_row(subject), "story": "" if len(subject.story) < 80 else subject.story[:2000]},
        }  # fmt: skip
        print(
            f"{'quiet' if quiet else 'LOUD'} {campaign.name}: subject {subject.verdict} in {subject.schedules} runs, "
            f"twin {planted.verdict} {planted.oracle}",
            flush=True,
        )
    return {"campaigns": rows, "quiet": all(row.get("quiet", True) for row in rows.values())}


def _row(result: Result) -> dict[str, Any]:
    return {"verdict": result.verdict, "oracle": result.oracle, "runs": result.schedules}


def missing(campaign: Campaign) -> str | None:
    if campaign.needs is None:
        return None
    try:
        for needed in {campaign.needs} | ({"PIL"} if campaign.needs.startswith("nvidia") else set()):
            if importlib.util.find_spec(needed) is None:
                return needed
    except ImportError:
        return campaign.needs
    return None
