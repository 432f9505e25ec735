"""What gilprobe.span and gilprobe.profile cost in a program itself. As a script: runs in the target, prints JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SPANS, THREADS = 100_000, 50


def measure(pairs: int) -> dict[str, list[float]]:
    """Each in a process of its own, sorted: us a span, recorded or not; ms to begin and to end a recording."""
    found: dict[str, list[float]] = {}
    for _ in range(pairs):
        for case in ("spans", "recorded_spans", "profile"):
            with tempfile.TemporaryDirectory() as name:
                command = [sys.executable, __file__, case, str(Path(name) / "r")]
                out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            for what, value in json.loads(out).items():
                found.setdefault(what, []).append(value)
    return {what: sorted(values) for what, values in found.items()}


def _span_us() -> float:
    import gilprobe

    part = gilprobe.span("part")
    start = time.perf_counter()
    for _ in range(SPANS):
        with part:
            pass
    return (time.perf_counter() - start) / SPANS * 1e6


def spans(folder: str) -> dict[str, float]:
    return {"a span that nothing records, us": _span_us()}


def recorded_spans(folder: str) -> dict[str, float]:
    import gilprobe

    with gilprobe.profile(folder, rate_hz=0):
        return {"a recorded span, us": _span_us()}


def profile(folder: str) -> dict[str, float]:
    import gilprobe

    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    recording = gilprobe.profile(folder)
    began = time.perf_counter()
    recording.start()
    started = time.perf_counter()
    time.sleep(0.1)
    ends = time.perf_counter()
    recording.stop()
    ended = time.perf_counter()
    over.set()
    return {
        f"gilprobe.profile() begins in a program of {THREADS} threads, ms": 1e3 * (started - began),
        f"gilprobe.profile() ends in a program of {THREADS} threads, ms": 1e3 * (ended - ends),
    }


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    print(json.dumps(globals()[sys.argv[1]](sys.argv[2])))
