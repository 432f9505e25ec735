"""The processor's own count: what is counted is right, what cannot be counted is said and never printed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pythons import Python

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment
from gilprobe.model import Profile
from gilprobe.recording import Recording, read_folder
from gilprobe.render.wording import samplers

# perf_event_open: PERF_TYPE_SOFTWARE:PERF_COUNT_SW_PAGE_FAULTS; PERF_TYPE_RAW:MEM_LOAD_L3_HIT_RETIRED.XSNP_HITM
PAGE_FAULTS, MODIFIED_ELSEWHERE = "1:2", "4:1234"
TOUCH = """
import ctypes, mmap, os, threading, time
def touch(pages):
    memory = mmap.mmap(-1, (pages + 1) * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    start = ctypes.c_char.from_buffer(memory)
    ctypes.memset(ctypes.addressof(start), 1, pages * 4096)
"""
FAULTS = (
    TOUCH
    + """
PAGES = {"touches": 5000, "touches_less": 1000, "ends": 0}
threads = [threading.Thread(target=touch, args=(pages,), name=name) for name, pages in PAGES.items()]
for thread in threads: thread.start()
for thread in threads: thread.join()
time.sleep(0.1)  # join does not wait for a thread's last steps
"""
)
FORKS = (
    TOUCH
    + """
pid = os.fork()
if not pid:
    touch(2048)
    os._exit(0)
os.waitpid(pid, 0)
"""
)


def recorded(python: str, folder: Path, **options: str) -> tuple[Recording, Profile]:
    variables = environment(folder, Options(rate_hz=100, **options))  # type: ignore[arg-type]
    subprocess.run([python, "-c", FAULTS], env=variables, check=True, timeout=300)
    return read_folder(folder)[0], load(folder)


def test_each_threads_count_is_the_kernels_own(any_python: Python, tmp_path: Path) -> None:
    recording, profile = recorded(any_python.executable, tmp_path, counter=PAGE_FAULTS)
    if recording.header["counter_errno"]:
        pytest.skip(f"NO PERF: {os.strerror(recording.header['counter_errno'])}")
    _, touches, touches_less, ends = (thread for _, thread in sorted(recording.threads.items()))
    for thread, least in ((touches, 5000), (touches_less, 1000)):
        # getrusage also has those that the kernel took on the thread's behalf.
        assert least <= thread["counted"] <= thread["minor_faults"] + 5 < least + 500
        assert thread["counted_running_ns"] > 0
    assert ends["counted"] < 200
    total = sum(thread["counted"] for thread in recording.threads.values())
    assert profile.meta["counted"]["total"] == pytest.approx(total)
    assert "counted by" in samplers(profile)


def test_what_the_kernel_does_not_count_is_said_with_its_reason_and_no_figure(
    free_threaded_python: Python, tmp_path: Path
) -> None:
    recording, profile = recorded(free_threaded_python.executable, tmp_path, counter=MODIFIED_ELSEWHERE)
    if not recording.header["counter_errno"]:
        pytest.skip("NOT REFUSED: this machine has hardware counters")
    assert recording.header["counter_errno"] in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EOPNOTSUPP)
    assert all(thread["counted_running_ns"] == 0 for thread in recording.threads.values())
    (said,) = [item for item in profile.not_observed if "another core had modified" in item.what]
    assert os.strerror(recording.header["counter_errno"]) in said.why
    assert "counted" not in profile.meta and "counted by" not in samplers(profile)


def test_a_free_threaded_run_either_counts_or_says_why_not_and_one_with_the_gil_does_not_ask(
    any_python: Python, tmp_path: Path
) -> None:
    recording, profile = recorded(any_python.executable, tmp_path)
    said = [item for item in profile.not_observed if "another core had modified" in item.what]
    assert bool(recording.header["counter_flags"]) == any_python.free_threaded
    assert len(said) + ("counted" in profile.meta) == any_python.free_threaded


def test_a_forked_child_counts_for_itself(tmp_path: Path) -> None:
    variables = environment(tmp_path, Options(rate_hz=100, counter=PAGE_FAULTS))
    subprocess.run([sys.executable, "-c", FORKS], env=variables, check=True, timeout=300)
    parent, child = read_folder(tmp_path)
    if parent.header["counter_errno"]:
        pytest.skip(f"NO PERF: {os.strerror(parent.header['counter_errno'])}")
    if child.header["pid"] == parent.header["parent_pid"]:
        parent, child = child, parent
    (main,), (forked,) = parent.threads.values(), child.threads.values()
    assert forked["counted"] >= 2048
    assert main["counted"] <= main["minor_faults"] + 5
