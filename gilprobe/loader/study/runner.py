"""Runs the matrix in interleaved rounds and remembers every answer, so that a broken-off study goes on."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gilprobe
from gilprobe.errors import GilprobeError
from gilprobe.loader.study.estimate import estimate_s
from gilprobe.loader.study.matrix import SIZES, Build, Cell
from gilprobe.loader.study.pictures import pictures

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def find_builds(pythons: Sequence[str]) -> list[Build]:
    """A free-threaded interpreter counts twice: with the GIL off, and with it on, which tells the build from the lock.

    Raises GilprobeError for one that cannot import torch and gilprobe.
    """
    builds = []
    for python in pythons:
        code = (
            "import sysconfig, platform, torch; "
            "print(platform.python_version(), sysconfig.get_config_var('Py_GIL_DISABLED'))"
        )
        try:
            done = subprocess.run([python, "-c", code], capture_output=True, text=True, env=environment(), check=False)
        except OSError as error:
            raise GilprobeError(
                f"{python} does not run: {error.strerror}", "Give --python a Python interpreter."
            ) from error
        if done.returncode != 0:
            raise GilprobeError(f"{python} cannot import torch", "pip install 'gilprobe[loader]' into its environment.")
        version, free_threaded = done.stdout.split()
        kinds = ["free-threaded", "free-threaded, gil=1"] if free_threaded == "1" else ["gil"]
        builds += [Build(python, version, kind) for kind in kinds]
    return builds


class Study:
    """answers: one JSON object a line in `folder`/answers.jsonl, keyed by cell and round."""

    def __init__(self, builds: Sequence[Build], matrix: Sequence[Cell], folder: Path) -> None:
        self.builds = {build.label: build for build in builds}
        self.matrix = list(matrix)
        self.folder = folder
        self.servers: dict[tuple[str, str, str], subprocess.Popen[str]] = {}
        self.answers = self._read()
        self.pictures: dict[tuple[int, int], Path] = {}

    def expected_s(self, rounds: int, epochs: int, warm_up: int) -> float:
        """Seconds that what is left to measure will take (estimate.py)."""
        paths = {size: pictures(self.folder, size) for size in SIZES}
        left = [cell for number in range(rounds) for cell in self.matrix if (cell.key, number) not in self.answers]
        return estimate_s(left, paths, epochs + warm_up)

    def run(
        self, rounds: int, epochs: int, warm_up: int, budget_s: float | None, progress: Callable[[int, int], None]
    ) -> None:
        """Every cell once a round, in an order of its own each round. `budget_s` ends it after a whole first round."""
        begin = time.monotonic()
        paths = self.pictures = {size: pictures(self.folder, size) for size in SIZES}
        total, done = rounds * len(self.matrix), 0
        with (self.folder / "answers.jsonl").open("a") as log:
            try:
                for number in range(rounds):
                    order = _order(self.matrix, number)
                    for cell in order:
                        done += 1
                        if (cell.key, number) in self.answers:
                            continue
                        if number and budget_s is not None and time.monotonic() - begin > budget_s:
                            return
                        answer = self._ask(cell, str(paths[cell.size]), warm_up, epochs, check=number == 0)
                        answer["load_average"] = round(os.getloadavg()[0], 2)
                        self.answers[cell.key, number] = answer
                        log.write(json.dumps({"key": cell.key, "round": number, "answer": answer}) + "\n")
                        log.flush()
                        progress(done, total)
            finally:
                self.close()

    def close(self) -> None:
        for server in self.servers.values():
            assert server.stdin is not None
            server.stdin.close()
        for server in self.servers.values():
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
        self.servers.clear()

    def _ask(self, cell: Cell, path: str, warm_up: int, epochs: int, *, check: bool) -> dict[str, Any]:
        place = (cell.build, cell.method, cell.codec)
        server = self.servers.get(place)
        if server is None or server.poll() is not None:
            server = self.servers[place] = self._start(self.builds[cell.build])
        assert server.stdin is not None and server.stdout is not None
        # The forked workers must not inherit a decoder, so only the threads' process checks the pixels.
        wanted = {**cell.as_json(), "check_pixels": check and cell.method == "threads"}
        request = {"cell": wanted, "pictures": path, "warm_up": warm_up, "epochs": epochs}
        try:
            server.stdin.write(json.dumps(request) + "\n")
            server.stdin.flush()
            line = server.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"error": f"the measuring process ended with status {server.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        if answer["gil_enabled"] == (self.builds[cell.build].gil == "free-threaded"):
            answer["error"] = "the GIL is not as this build should have it"
        return answer

    def _start(self, build: Build) -> subprocess.Popen[str]:
        log = (self.folder / "servers.log").open("a")
        command = [*build.command, "-m", "gilprobe.loader.study.cell"]
        with log:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment()
            )

    def _read(self) -> dict[tuple[str, int], dict[str, Any]]:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "answers.jsonl"
        found: dict[tuple[str, int], dict[str, Any]] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # the line that was being written when the study was broken off
            found[entry["key"], entry["round"]] = entry["answer"]
        return found


def _order(matrix: Sequence[Cell], seed: int) -> list[Cell]:
    """Shapes in random order, and within each shape the methods: what is compared runs back to back, either first."""
    rng = random.Random(seed)
    shapes: dict[str, list[Cell]] = {}
    for cell in matrix:
        shapes.setdefault(cell.key.replace(f"|{cell.method}|", "|"), []).append(cell)
    groups = list(shapes.values())
    rng.shuffle(groups)
    for group in groups:
        rng.shuffle(group)
    return [cell for group in groups for cell in group]


def environment() -> dict[str, str]:
    root = str(Path(gilprobe.__file__).parent.parent)
    return {
        **os.environ,
        **_ONE_THREAD,
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }
