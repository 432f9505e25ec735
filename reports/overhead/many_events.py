"""A recording with as many events as one likes, made from a real one by repeating its event chunks."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from gilprobe.launch.target import Options, environment
from gilprobe.recording import read_folder, schema

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
        _multiply(folder, count)
        done = subprocess.run([sys.executable, "-c", ANALYSE, name], capture_output=True, text=True, check=True)
        seconds, gigabytes = map(float, done.stdout.split())
        return seconds, gigabytes


def _multiply(folder: Path, count: int) -> None:
    (recording,) = read_folder(folder)
    events = np.concatenate(recording.events)
    with recording.path.open("r+b") as file:
        file.seek(0, 2)
        left = count - len(events)
        while left > 0:
            part = np.resize(events, min(left, 20_000))
            payload = part.tobytes()
            size = -(-(len(payload) + schema.CHUNK_HEADER.itemsize) // 8) * 8
            extent_bytes = -(-(size + schema.EXTENT_HEADER.itemsize) // 4096) * 4096
            extent = np.zeros((), schema.EXTENT_HEADER)
            extent["magic"], extent["bytes"] = schema.EXTENT_MAGIC, extent_bytes
            extent["used"] = size + schema.EXTENT_HEADER.itemsize
            chunk = np.zeros((), schema.CHUNK_HEADER)
            chunk["magic"], chunk["kind"] = schema.CHUNK_MAGIC, schema.ChunkKind.EVENTS
            chunk["bytes"], chunk["length"] = size, len(payload)
            file.write((extent.tobytes() + chunk.tobytes() + payload).ljust(extent_bytes, b"\0"))
            left -= len(part)
