"""Recordings and profiles of a wanted size."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gilprobe.launch.target import Options, environment
from gilprobe.model import Frame, Overview, Profile, Releaser, Thread, Timeline, Wait
from gilprobe.recording import read_folder, schema
from reports.overhead.many_events import CODE

PART = 200_000


def many_events(folder: Path, count: int) -> None:
    """A recording of a real program whose events follow themselves, later each time, until there are `count`."""
    subprocess.run([sys.executable, "-c", CODE], env=environment(folder, Options(events=True)), check=True)
    (recording,) = read_folder(folder)
    events = np.concatenate(recording.events)
    span_ns = int((events["start_ns"] + events["duration_ns"]).max() - events["start_ns"].min())
    copies = -(-count // len(events))
    with recording.path.open("r+b") as file:
        _live_longer(file, recording.path.read_bytes(), (copies - 1) * span_ns)
        file.seek(0, 2)
        left = count - len(events)
        for copy in range(1, copies):
            later = events[:left].copy()
            later["start_ns"] += copy * span_ns
            left -= len(later)
            for at in range(0, len(later), PART):
                file.write(_extent(later[at : at + PART].tobytes()))


def _live_longer(file: BinaryIO, data: bytes, by_ns: int) -> None:
    """The header and every THREAD record end that much later."""

    def shift(dtype: np.dtype[Any], start: int, names: tuple[str, ...]) -> None:
        for name in names:
            offset = start + int(dtype.fields[name][1])  # type: ignore[index]
            (value,) = struct.unpack_from("<Q", data, offset)
            if value:
                file.seek(offset)
                file.write(struct.pack("<Q", value + by_ns))

    shift(schema.FILE_HEADER, 0, ("end_ns",))
    head = struct.pack("<HHI", schema.RecordType.THREAD, 0, schema.THREAD_RECORD.itemsize)
    at = data.find(head)
    while at >= 0:
        shift(schema.THREAD_RECORD, at, ("end_ns", "read_ns"))
        at = data.find(head, at + 8)


def _extent(payload: bytes) -> bytes:
    size = -(-(len(payload) + schema.CHUNK_HEADER.itemsize) // 8) * 8
    extent_bytes = -(-(size + schema.EXTENT_HEADER.itemsize) // 4096) * 4096
    extent, chunk = np.zeros((), schema.EXTENT_HEADER), np.zeros((), schema.CHUNK_HEADER)
    extent["magic"], extent["bytes"] = schema.EXTENT_MAGIC, extent_bytes
    extent["used"] = size + schema.EXTENT_HEADER.itemsize
    chunk["magic"], chunk["kind"] = schema.CHUNK_MAGIC, schema.ChunkKind.EVENTS
    chunk["bytes"], chunk["length"] = size, len(payload)
    return (extent.tobytes() + chunk.tobytes() + payload).ljust(extent_bytes, b"\0")


def many_intervals(threads: int = 8, each: int = 100_000) -> Profile:
    """Irregular waits of ten kinds of site; the thread runs between them."""
    draw = random.Random(0)
    kinds = ("gil", "lock", "object", "native", "import")
    frames = [Frame(f"work_{at}", "/srv/app/service.py", at) for at in range(10)]
    waits = tuple(
        Wait(kinds[at % 5], "_thread.lock", f"self._lock_{at} in work_{at}", each, 1.0, 0.01, (0,) * 40, (frame,),
             (Releaser((frames[0],), 1, 1.0, "worker 0"),))
        for at, frame in enumerate(frames)
    )  # fmt: skip
    rows = []
    for thread in range(threads):
        now = 0
        for _ in range(each):
            now += int(draw.expovariate(1 / 60_000)) + 1
            duration = int(draw.lognormvariate(10, 1.2))
            rows.append((now, thread, draw.randrange(-1, 10), duration))
            now += duration
    rows.sort()
    starts, numbers, which, durations = zip(*rows, strict=True)
    timeline = Timeline(
        thread=array("i", numbers), wait=array("i", which), releaser=array("i", [0]) * len(rows),
        start_ns=array("q", starts), duration_ns=array("q", durations), wake_ns=array("I", [d // 5 for d in durations]),
        spin_ns=array("I", [0]) * len(rows), release=array("b", [0]) * len(rows),
    )  # fmt: skip
    wall_s = (starts[-1] + durations[-1]) / 1e9
    living = tuple(
        Thread(f"worker {at}", at, 1, wall_s, wall_s / 2, 0.0, {"lock": wall_s / 2}, {}, 0.0, 0.0, 0.0)
        for at in range(threads)
    )
    return _profile("many intervals", wall_s, living, waits, timeline)


def many_rows(count: int = 100_000) -> Profile:
    """So many different waits: as if every row had a line and a lock of its own."""
    draw = random.Random(0)
    waits = []
    for at in range(count):
        name = f"function_{at}"
        stack = (Frame(name, f"/srv/app/module_{at % 500}.py", at % 2000), Frame("main", "/srv/app/main.py", 1))
        total_s = draw.expovariate(1.0)
        histogram = tuple(draw.randrange(100) if 12 < bucket < 20 else 0 for bucket in range(40))
        waits.append(
            Wait("lock", "_thread.lock", f"self._lock in {name}", 10, total_s, total_s / 3, histogram, stack,
                 (Releaser(stack, 10, total_s, "worker 1"),), threads={"worker 0": total_s},
                 pairs=(("worker 0", "worker 1", total_s),))
        )  # fmt: skip
    waits.sort(key=lambda wait: -wait.total_s)
    living = tuple(
        Thread(f"worker {at}", at, 1, 100.0, 50.0, 0.0, {"lock": 50.0}, {}, 0.0, 0.0, 0.0) for at in range(8)
    )
    return _profile("many rows", 100.0, living, tuple(waits), None)


def _profile(
    name: str, wall_s: float, threads: tuple[Thread, ...], waits: tuple[Wait, ...], timeline: Timeline | None
) -> Profile:
    meta = {"recording": name, "python": "3.13.0", "wall_s": wall_s, "cpu_s": wall_s, "rate_hz": 0, "samples": 0,
            "sampler": "off"}  # fmt: skip
    overview = Overview(timeline, array("I")) if timeline else None
    return Profile(meta=meta, processes=(), threads=threads, waits=waits, timeline=timeline, overview=overview)
