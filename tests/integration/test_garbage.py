"""Samples that fell in a garbage collection, against what gc.callbacks measured of the same thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from pythons import Python

from gilprobe.analysis import load
from gilprobe.analysis.garbage import LEAST_SHARE
from gilprobe.launch.target import Options, environment
from gilprobe.model import Profile

# Cycles that are collected by hand; the twin makes as many objects, without cycles. Finalizers let other threads run
# in the middle of a collection: what those do is not part of it.
PROGRAM = """
import gc, json, sys, threading, time
gc.disable()
cycles, finalizers = "cycles" in sys.argv, "finalizers" in sys.argv
began = inside = 0.0
def told(phase, info):
    global began, inside
    if phase == "start": began = time.thread_time()
    else: inside += time.thread_time() - began
gc.callbacks.append(told)
class Node:
    def __init__(self): self.me = self if cycles else None
class Last(Node):
    def __del__(self): time.sleep(0.03)
def collecting():
    end = time.thread_time() + 0.5
    while time.thread_time() < end:
        for _ in range(2000): Node()
        if finalizers: Last()
        if cycles: gc.collect()
def working():
    end = time.thread_time() + 0.2
    while time.thread_time() < end: sum(range(1000))
threads = [threading.Thread(target=work, name=work.__name__) for work in (collecting, working)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(inside))
"""


def run(python: Python, folder: Path, *words: str) -> tuple[Profile, float]:
    out = folder / "-".join(["recording", *words])
    out.mkdir()
    variables = os.environ | environment(out, Options(events=True, rate_hz=100))
    done = subprocess.run(
        [python.executable, "-c", PROGRAM, *words], env=variables, check=True, capture_output=True, text=True
    )
    return load(out), float(json.loads(done.stdout))


def test_a_thread_that_collects_is_told_with_its_share(any_python: Python, tmp_path: Path) -> None:
    profile, inside_s = run(any_python, tmp_path, "cycles")
    threads = {thread.name: thread for thread in profile.threads}
    collecting = threads["collecting"]
    truth, share = inside_s / collecting.cpu_s, collecting.gc_s / collecting.cpu_s
    assert truth > 0.2
    count = sum(s.count for s in profile.cpu_stacks if profile.threads[s.thread].name == "collecting")
    assert abs(share - truth) < 0.05 + 4 * (0.25 / count) ** 0.5  # four standard errors: 0.28 for 50 samples
    assert threads["working"].gc_samples == 0
    assert profile.collections is not None
    marks = list(zip(profile.collections.thread, profile.collections.time_ns, strict=True))
    own = [time for thread, time in marks if profile.threads[thread].name == "collecting"]
    assert len(own) == collecting.gc_samples and own == sorted(own)
    begin, end = collecting.start_s * 1e9, (collecting.start_s + collecting.wall_s) * 1e9
    assert all(begin <= time <= end for time in own)
    wanted_s = sum(thread.wanted_s for thread in profile.threads)  # a busy machine makes it long
    told = any(finding.kind == "gc" and "collecting" in finding.title for finding in profile.findings)
    assert told == (sum(thread.gc_s for thread in profile.threads) >= LEAST_SHARE * wanted_s)
    leaves = [s for s in profile.cpu_stacks if s.stack and s.stack[0].function == "[garbage collection]"]
    assert sum(s.count for s in leaves if profile.threads[s.thread].name == "collecting") == collecting.gc_samples


def test_the_twin_without_cycles_has_none(any_python: Python, tmp_path: Path) -> None:
    profile, inside_s = run(any_python, tmp_path)
    threads = {thread.name: thread for thread in profile.threads}
    assert inside_s == 0 and threads["collecting"].gc_samples == threads["working"].gc_samples == 0
    assert not any(finding.kind == "gc" for finding in profile.findings)


def test_what_others_do_while_a_finalizer_sleeps_is_no_collection(any_python: Python, tmp_path: Path) -> None:
    profile, _ = run(any_python, tmp_path, "cycles", "finalizers")
    threads = {thread.name: thread for thread in profile.threads}
    assert threads["collecting"].gc_samples > 0 and threads["working"].gc_samples == 0


def test_without_a_sampler_the_report_says_that_collections_were_not_seen(tmp_path: Path) -> None:
    out = tmp_path / "recording"
    out.mkdir()
    variables = os.environ | environment(out, Options(rate_hz=0))
    subprocess.run([sys.executable, "-c", "import gc; gc.collect()"], env=variables, check=True)
    assert any(item.what == "garbage collections" for item in load(out).not_observed)
