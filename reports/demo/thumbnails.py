"""A thumbnail service: decodes, resizes and encodes photographs in a pool of threads.

As services do, it keeps what it made in a cache behind a lock and counts what it does in one statistics object.
"""

from __future__ import annotations

import argparse
import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

PICTURES = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gilprobe" / "pictures"


class Statistics:
    def __init__(self) -> None:
        self.requests = 0
        self.hits = 0
        self.bytes_out = 0
        self.by_size: dict[tuple[int, int], int] = {}


class ThumbnailCache:
    """Holds the newest `most` thumbnails."""

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._thumbnails: dict[tuple[str, tuple[int, int]], bytes] = {}
        self._most = most

    def get(self, key: tuple[str, tuple[int, int]]) -> bytes | None:
        with self._lock:
            return self._thumbnails.get(key)

    def put(self, key: tuple[str, tuple[int, int]], data: bytes) -> None:
        with self._lock:
            self._thumbnails[key] = data
            if len(self._thumbnails) > self._most:
                oldest = next(iter(self._thumbnails))
                del self._thumbnails[oldest]


class ThumbnailService:
    def __init__(self, folder: Path) -> None:
        self._originals = {path.name: path.read_bytes() for path in sorted(folder.glob("*.jpg"))}
        self._cache = ThumbnailCache(most=64)
        self._statistics_lock = threading.Lock()
        self.statistics = Statistics()

    def names(self) -> list[str]:
        return list(self._originals)

    def thumbnail(self, name: str, size: tuple[int, int]) -> bytes:
        cached = self._cache.get((name, size))
        data = cached if cached is not None else self._make(name, size)
        self._count(size, hit=cached is not None, bytes_out=len(data))
        return data

    def _make(self, name: str, size: tuple[int, int]) -> bytes:
        with Image.open(io.BytesIO(self._originals[name])) as picture:
            small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        out = io.BytesIO()
        small.save(out, "JPEG", quality=85)
        self._cache.put((name, size), out.getvalue())
        return out.getvalue()

    def _count(self, size: tuple[int, int], *, hit: bool, bytes_out: int) -> None:
        with self._statistics_lock:
            self.statistics.requests += 1
            self.statistics.hits += hit
            self.statistics.bytes_out += bytes_out
            self.statistics.by_size[size] = self.statistics.by_size.get(size, 0) + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    service = ThumbnailService(PICTURES)
    sizes = [(160, 102), (320, 204), (64, 64)]
    wanted = [(name, size) for _ in range(arguments.rounds) for size in sizes for name in service.names()]
    start = time.perf_counter()
    with ThreadPoolExecutor(arguments.threads, thread_name_prefix="thumbnail") as pool:
        for future in [pool.submit(service.thumbnail, *request) for request in wanted]:
            future.result()
    elapsed = time.perf_counter() - start
    print(f"{service.statistics.requests} thumbnails, {service.statistics.requests / elapsed:.0f} a second")


if __name__ == "__main__":
    main()
