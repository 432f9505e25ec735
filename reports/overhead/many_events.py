"""A recording with as many events or samples as one likes, made from a real one by repeating its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gilprobe.launch.target import Options, environment
from gilprobe.recording import Recording, read_folder, schema
from reports.zoo.record import ZOO

CODE = """
import threading, time
lock = threading.Lock()
end = time.monotonic() + 2
def body():
    while time.monotonic() < end:
        with lock: time.sleep(0.0001)
threads = [threading.Thread(target=body) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
"""
ANALYSE = """
import resource, sys, time
start = time.perf_counter()
from gilprobe.analysis import load
profile = load(sys.argv[1])
assert profile.threads
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def analyse(count: int) -> tuple[float, float]:
    """(seconds, peak GB) of analysing a recording with `count` events."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            [sys.executable, "-c", CODE], env=environment(folder, Options(events=True, rate_hz=0)), check=True
        )
        (recording,) = read_folder(folder)
        _multiply(recording, np.concatenate(recording.events), count, schema.ChunkKind.EVENTS)
        done = subprocess.run([sys.executable, "-c", ANALYSE, name], capture_output=True, text=True, check=True)
        seconds, gigabytes = map(float, done.stdout.split())
        return seconds, gigabytes


def page_of_samples(python: str, count: int) -> float:
    """Seconds to make the page of a recording with eight threads and `count` samples, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder, page = Path(name) / "recording", Path(name) / "page.html"
        folder.mkdir()
        subprocess.run(
            [python, str(ZOO / "hot.py"), "list_element", "8", "0.5"],
            env=environment(folder, Options(rate_hz=1000)), check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        (recording,) = read_folder(folder)
        _multiply(recording, recording.samples, count, schema.ChunkKind.SAMPLES)
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "gilprobe", "report", str(folder), "-o", str(page)], check=True, capture_output=True
        )
        return time.perf_counter() - start


def _multiply(recording: Recording, rows: NDArray[Any], count: int, kind: schema.ChunkKind) -> None:
    with recording.path.open("r+b") as file:
        file.seek(0, 2)
        left = count - len(rows)
        while left > 0:
            part = np.resize(rows, min(left, 20_000))
            payload = part.tobytes()
            size = -(-(len(payload) + schema.CHUNK_HEADER.itemsize) // 8) * 8
            extent_bytes = -(-(size + schema.EXTENT_HEADER.itemsize) // 4096) * 4096
            extent = np.zeros((), schema.EXTENT_HEADER)
            extent["magic"], extent["bytes"] = schema.EXTENT_MAGIC, extent_bytes
            extent["used"] = size + schema.EXTENT_HEADER.itemsize
            chunk = np.zeros((), schema.CHUNK_HEADER)
            chunk["magic"], chunk["kind"] = schema.CHUNK_MAGIC, kind
            chunk["bytes"], chunk["length"] = size, len(payload)
            file.write((extent.tobytes() + chunk.tobytes() + payload).ljust(extent_bytes, b"\0"))
            left -= len(part)
