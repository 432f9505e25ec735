"""Why the losing side lost: gilprobe's own profile of it, beside the same work with one worker.

The recordings are made and read through the command line, so that the loader needs nothing of the analysis.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gilprobe
from gilprobe.loader.study.matrix import SIZES, STEPS, Build, Cell, Codec, Method, batches_a_worker
from gilprobe.loader.study.runner import environment

RATE_HZ = 500
EPOCHS = 3
LIMIT_S = 120
# Of a worker: what it has to do. The rest of its time it waits for the consumer.
WORK = ("dataset", "collate", "output wait")


@dataclass(frozen=True)
class Lost:
    """One comparison and the side that was slower in it, by the median; `outcome` is threads' against fork."""

    build: str
    codec: Codec
    workers: int
    batch: int
    size: tuple[int, int]
    outcome: str
    method: Method

    def cell(self, workers: int, images: int) -> Cell:
        return Cell(
            self.build,
            self.method,
            self.codec,
            workers,
            self.batch,
            self.size,
            STEPS[-1],
            images,
        )


def lost(ratios: list[dict[str, Any]]) -> list[Lost]:
    """The slower side of each comparison with fork that handed over the largest pictures, at the compared count; and
    the threads where they are behind with smaller ones."""
    chosen = [
        r
        for r in ratios
        if (r["against"], r["step"]) == ("fork", STEPS[-1])
        and (tuple(r["size"]) == SIZES[0] or r["outcome"] == "behind")
    ]
    counts = {r["workers"] for r in chosen}
    compared = 2 if 2 in counts else min(counts, default=0)
    return [
        Lost(
            r["build"],
            r["codec"],
            r["workers"],
            r["batch"],
            (r["size"][0], r["size"][1]),
            r["outcome"],
            "threads" if r["median"] < 1 else "fork",
        )
        for r in chosen
        if r["workers"] == compared
    ]


def explain(side: Lost, build: Build, pictures: Path, folder: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    """JSON: `causes` and `findings` of the profile; `waterfall`: microseconds of a worker an image by class, with one
    worker and with all; or `error`. A profile that was made before is read again."""
    images = side.batch * batches_a_worker(side.batch) * side.workers
    found: dict[str, Any] = {**asdict(side), "size": list(side.size)}
    try:
        many = _profile(build, side.cell(side.workers, images), pictures, folder, progress)
        one = _profile(build, side.cell(1, images), pictures, folder, progress)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        return {**found, "error": f"{type(error).__name__}: {str(error)[-400:]}"}
    total = images * EPOCHS
    here, alone = _classes(many, side.method, total), _classes(one, side.method, total)
    found["waterfall"] = [
        {"name": name, "one_worker_us": alone.get(name, 0.0), "us": here.get(name, 0.0)}
        for name in sorted({*here, *alone}, key=lambda name: -abs(here.get(name, 0.0) - alone.get(name, 0.0)))
    ]
    found["causes"] = [_portable(cause) for cause in many.get("loader", {}).get("causes", [])[:3]]
    found["findings"] = [
        {name: finding[name] for name in ("title", "share", "evidence", "kind", "detail")}
        for finding in many["findings"][:3]
    ]
    return found


def _portable(cause: dict[str, Any]) -> dict[str, Any]:
    """Files as their packages name them: the summary is read on other machines."""
    sites = [{**site, "file": _in_package(site["file"])} for site in cause.get("sites", ())]
    return {**cause, "sites": sites}


def _in_package(file: str) -> str:
    own = file.removeprefix(f"{Path(gilprobe.__file__).parent.parent}/")
    return re.sub(r"^/.*/(?:site-packages|python3\.\d+t?)/", "", own)


def _profile(build: Build, cell: Cell, pictures: Path, folder: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    kept = folder / "profiles" / f"{cell.key.replace('|', '.').replace(' ', '-')}.json"
    if kept.exists():
        report: dict[str, Any] = json.loads(kept.read_text())
        return report
    width, height = cell.size
    progress(f"{cell.build}, {cell.codec}, {cell.method}, {cell.workers} workers, batch {cell.batch}, {width}x{height}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    recording = kept.with_suffix(".gilprobe")
    request = json.dumps(
        {"cell": cell.as_json(), "pictures": str(pictures), "epochs": EPOCHS, "gil": build.gil != "free-threaded"}
    )
    gilprobe = [sys.executable, "-m", "gilprobe"]
    options = ["-q", "--force", "--rate", str(RATE_HZ), "-o", str(recording), "--python", build.python]
    _run([*gilprobe, "profile", *options, "-m", "gilprobe.loader.study.once", request], build)
    part = kept.with_suffix(".part")
    part.write_text(_run([*gilprobe, "report", str(recording), "-f", "json"], build))
    shutil.rmtree(recording)
    report = json.loads(part.read_text())
    part.replace(kept)
    return report


def _run(command: list[str], build: Build) -> str:
    variables = environment()
    if build.gil.endswith("gil=1"):
        variables["PYTHON_GIL"] = "1"  # a GIL build takes it, too: gilprobe itself runs on one
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S, env=variables)
    if ran.returncode:
        raise ValueError(f"{' '.join(command[1:4])} ended with status {ran.returncode}: {ran.stderr[-300:]}")
    return ran.stdout


def _classes(report: dict[str, Any], method: str, images: int) -> dict[str, float]:
    """Microseconds a worker (all workers together) spent an image, by class."""
    seconds: dict[str, float] = {}
    if method == "threads":
        for part in WORK:
            for name, value in report["loader"]["parts"].get(part, {}).items():
                seconds[name] = seconds.get(name, 0.0) + value
        seconds.pop("wall", None)
    else:
        # A worker's import of torch lies in its parent: forked workers begin with the work.
        parent = report["processes"][0]["pid"]
        for thread in report["threads"]:
            if thread["pid"] != parent:
                own = {
                    "cpu": thread["cpu_s"] - thread["spin_s"] - thread["atomic_stall_s"],
                    "spin": thread["spin_s"],
                    "atomic stall": thread["atomic_stall_s"],
                    "ready": thread["runnable_s"],
                    **thread["wait_s"],
                }
                for name, value in own.items():
                    seconds[name] = seconds.get(name, 0.0) + value
    return {name: value * 1e6 / images for name, value in seconds.items() if value * 1e6 / images >= 0.05}
