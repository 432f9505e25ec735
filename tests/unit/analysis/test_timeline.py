"""Single waits and sampled stacks as the Profile holds them."""

from __future__ import annotations

import os
import subprocess
from array import array
from pathlib import Path

import pytest
from pythons import Python

from gilprobe.analysis import load, overview
from gilprobe.launch.target import Options, environment
from gilprobe.model import Profile, Timeline, own_frame

# The worker called "waiter" waits for what "holder" holds, eight times 20 ms.
PLANTED = """
import threading, time
lock, turn, back = threading.Lock(), threading.Semaphore(0), threading.Semaphore(0)
def holder():
    for _ in range(8):
        lock.acquire()
        turn.release()
        time.sleep(0.02)
        lock.release()
        back.acquire()
def waiter():
    for _ in range(8):
        turn.acquire()
        with lock: pass
        back.release()
def spin():
    end = time.thread_time() + 0.4
    while time.thread_time() < end: pass
threads = [threading.Thread(target=f, name=f.__name__) for f in (holder, waiter, spin)]
for t in threads: t.start()
for t in threads: t.join()
"""


def recorded(python: Python, folder: Path, events: bool) -> Profile:
    options = Options(events=events, rate_hz=100)
    subprocess.run([python.executable, "-c", PLANTED], env=os.environ | environment(folder, options), check=True)
    return load(folder)


def test_every_wait_is_in_the_timeline_with_who_ended_it(any_python: Python, tmp_path: Path) -> None:
    profile = recorded(any_python, tmp_path, events=True)
    timeline = profile.timeline
    assert timeline is not None
    assert list(timeline.start_ns) == sorted(timeline.start_ns)
    totals = [0] * len(profile.waits)
    for wait, duration_ns in zip(timeline.wait, timeline.duration_ns, strict=True):
        if wait >= 0:
            totals[wait] += duration_ns
    assert [total / 1e9 for total in totals] == pytest.approx([wait.total_s for wait in profile.waits])
    names = [thread.name for thread in profile.threads]
    for at in range(len(timeline)):
        wait = profile.waits[timeline.wait[at]] if timeline.wait[at] >= 0 else None
        if wait and wait.kind == "lock" and names[timeline.thread[at]] == "waiter" and timeline.duration_ns[at] > 1e7:
            assert names[timeline.releaser[at]] == "holder"
            frame = own_frame(wait.releasers[timeline.release[at]].stack)
            assert frame is None or frame.function == "holder"  # None: this Python's stacks are not known
            break
    else:
        raise AssertionError("the planted wait is not there")


def test_sampled_stacks_add_up_to_the_threads_cpu(any_python: Python, tmp_path: Path) -> None:
    profile = recorded(any_python, tmp_path, events=False)
    assert profile.timeline is None and profile.overview is None
    spinning = next(at for at, thread in enumerate(profile.threads) if thread.name == "spin")
    stacks = [stack for stack in profile.cpu_stacks if stack.thread == spinning]
    assert sum(stack.seconds for stack in stacks) == pytest.approx(profile.threads[spinning].cpu_s)
    assert stacks[0].stack[0].function == "spin"


def test_a_timeline_too_long_for_a_page_loses_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "MOST_WHOLE", 100)
    monkeypatch.setattr(overview, "MOST_MERGED", 200)
    count = 10_000
    durations = [(at * 7919) % 900 + 1 for at in range(count)]
    zeros = [0] * count
    timeline = Timeline(
        thread=array("i", [at % 4 for at in range(count)]),
        wait=array("i", [at % 3 - 1 for at in range(count)]),
        releaser=array("i", [-1] * count),
        start_ns=array("q", [at * 1000 for at in range(count)]),
        duration_ns=array("q", durations),
        wake_ns=array("I", zeros),
        spin_ns=array("I", zeros),
        release=array("b", [-1] * count),
    )
    short = overview.overview_of(timeline, 4)
    assert len(short.timeline) == len(short.count) <= 300
    assert sum(short.timeline.duration_ns) == sum(durations) and sum(short.count) == count
    for thread in range(4):
        assert sum(
            d for d, t in zip(short.timeline.duration_ns, short.timeline.thread, strict=True) if t == thread
        ) == (sum(durations[thread::4]))
    longest = max(range(count), key=lambda at: durations[at])
    assert timeline.start_ns[longest] in short.timeline.start_ns
    assert list(short.timeline.start_ns) == sorted(short.timeline.start_ns)
