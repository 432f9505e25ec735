"""Collections, holds of the GIL, CUDA work and spans on the page."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from cuda import build
from pages import opened, record, silent, views, walk
from pythons import Python

from gilprobe.analysis import load
from gilprobe.model import Profile
from reports.browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: chromium is not installed, the page is untested")

PROGRAM = """
import ctypes, gc, threading, time
from gilprobe import span
gc.disable()
sleep_with_gil, lock = ctypes.PyDLL(None).usleep, threading.Lock()
class Node:
    def __init__(self): self.me = self
def collecting():
    for _ in range(12):
        for _ in range(20_000): Node()
        with span("collect"): gc.collect()
def holder():
    sleep_with_gil(60_000)  # held
def fetching():
    for _ in range(5):
        with span("fetch"):
            with lock: time.sleep(0.02)
threads = [threading.Thread(target=work, name=work.__name__) for work in (collecting, holder, fetching, fetching)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
HELD_LINE = PROGRAM[: PROGRAM.index("# held")].count("\n") + 1
GUTTER_PX, AXIS_PX, LANE_PX = 148, 26, 24


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    own = Python(sys.executable, "{}.{}.{}".format(*sys.version_info), False)
    return record(own, tmp_path_factory.mktemp("lanes"), PROGRAM)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    if shutil.which("gcc") is None:
        pytest.skip("NO COMPILER: CUDA's lanes are untested")
    folder = tmp_path_factory.mktemp("cuda")
    build(folder).run(sys.executable, folder / "recording", 6, 3_000_000, 2)
    return load(folder / "recording")


def canvas(chromium: Browser) -> tuple[float, float, float]:
    chromium.run("location.hash = '#threads'")
    chromium.wait("document.querySelector('.timeline canvas')?.clientHeight > 50")
    chromium.run("document.querySelector('.timeline').scrollIntoView({ block: 'center' })")
    chromium.frames()
    x, y, width = chromium.run(
        "(({ x, y, width }) => [x, y, width])(document.querySelector('.timeline canvas').getBoundingClientRect())"
    )
    return x, y, width


def shown(chromium: Browser, view: str) -> str:
    chromium.run(f"location.hash = '#{view}'")
    chromium.wait(f"!document.getElementById('{view}').hidden")
    chromium.frames()
    return str(chromium.run(f"document.getElementById('{view}').innerText"))


def test_collections_are_marked_and_counted(chromium: Browser, recorded: Profile, tmp_path: Path) -> None:
    assert recorded.collections is not None and len(recorded.collections) > 3
    opened(chromium, recorded, tmp_path, width=1280)
    assert "Garbage collection took" in shown(chromium, "answer")
    assert "samples in a collection" in shown(chromium, "threads")
    assert "collects garbage" in shown(chromium, "threads")
    x, y, width = canvas(chromium)
    order = sorted(recorded.threads, key=lambda thread: -thread.cpu_s - sum(thread.wait_s.values()))
    names = [thread.name for thread in recorded.threads]
    lane = [thread.name for thread in order].index("collecting")
    marks = [t for n, t in zip(recorded.collections.thread, recorded.collections.time_ns, strict=True)
             if names[n] == "collecting"]  # fmt: skip
    tips = []
    for mark in marks:
        at = x + GUTTER_PX + (width - GUTTER_PX) * mark / 1e9 / recorded.meta["wall_s"]
        chromium.mouse("mouseMoved", at, y + AXIS_PX + LANE_PX * lane + LANE_PX / 2)
        chromium.frames()
        tips.append(
            chromium.run("document.querySelector('.tip').hidden ? '' : document.querySelector('.tip').innerText")
        )
    assert any("in a garbage collection" in tip for tip in tips), tips
    silent(chromium)


def test_the_longest_hold_is_shown_with_its_function_and_line(
    chromium: Browser, recorded: Profile, tmp_path: Path
) -> None:
    opened(chromium, recorded, tmp_path, width=1280)
    text = shown(chromium, "gil")
    row = next(line for line in text.splitlines() if line.startswith("holder\t") and f"program.py:{HELD_LINE} " in line)
    assert "held" in text and float(row.split("\t")[1].split()[0]) >= 60
    silent(chromium)


@pytest.mark.parametrize("width", [400, 1600])
def test_contexts_have_lanes_and_a_replay_is_labelled(
    chromium: Browser, replayed: Profile, tmp_path: Path, width: int
) -> None:
    (kernels,) = [lane for lane in replayed.gpu_lanes if lane.what == "kernel"]
    assert kernels.count == 12 and abs(kernels.busy_s - 12 * 0.003) < 0.019  # those of two threads may overlap
    opened(chromium, replayed, tmp_path, width=width)
    walk(chromium)
    for view in ("threads", "cuda"):
        assert "Nothing here was measured on a GPU" in shown(chromium, view)
    assert "GPU: kernels" in shown(chromium, "threads")
    x, y, wide = canvas(chromium)
    gutter = GUTTER_PX if wide >= 560 else 84
    wall_ns = max(replayed.meta["wall_s"] * 1e9, max(lane.end_ns[-1] for lane in replayed.gpu_lanes))
    middle = (kernels.start_ns[0] + kernels.end_ns[0]) / 2 / wall_ns
    lane = len(replayed.threads) + replayed.gpu_lanes.index(kernels)
    chromium.click(x + gutter + (wide - gutter) * middle, y + AXIS_PX + LANE_PX * lane + LANE_PX / 2)
    told = chromium.run("document.querySelector('#threads .details').innerText")
    assert f"context {kernels.context} of process {kernels.pid}" in told and "Replay" in told
    assert "[estimated]" in told
    heads = shown(chromium, "cuda").lower()
    assert "how it was got" in heads and "kernels [estimated]" in heads and "gaps [estimated]" in heads
    silent(chromium)


def test_a_span_narrows_every_view(chromium: Browser, recorded: Profile, tmp_path: Path) -> None:
    inside = recorded.by_span["fetch"]
    assert {wait.kind for wait in inside.waits} >= {"lock"}
    opened(chromium, recorded, tmp_path, width=1280)
    assert "\ncollecting\t" in shown(chromium, "threads")
    chromium.run(
        "{ const box = document.querySelector('.spanbox select');"
        " box.value = [...box.options].find((option) => option.text === 'fetch').value;"
        " box.dispatchEvent(new Event('change')) } 1"
    )
    tables = "[...document.querySelectorAll('#{view} table')].map((table) => table.innerText).join('\\n')"
    for view in ("threads", "objects", "flame"):
        shown(chromium, view)
        text = chromium.run(tables.format(view=view))
        assert "\ncollecting\t" not in text, view  # it may have ended a wait, but neither waits nor runs here
    shown(chromium, "objects")
    assert "lock in fetching" in chromium.run(tables.format(view="objects"))
    assert "Only what lay inside the span fetch" in chromium.run("document.querySelector('main').innerText")
    for view in views(chromium):
        shown(chromium, view)
    walk(chromium)
    silent(chromium)
