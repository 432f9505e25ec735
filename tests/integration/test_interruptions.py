"""Calls that a signal ends are ended by the script's own signals only; signals for which there is no room."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from compiled import shared_library
from pythons import Python

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment

# A sampler's signal seldom comes just as a call begins to wait: a timer by the clock on the wall stands in for it,
# whose signal comes while the calls wait.
CALLS = """
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <signal.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static void burn(int number) {
    volatile int turns = 0;
    while (turns < 3000 + 37 * (number % 100)) turns++;
}
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
int interrupted[8], early, late;
void disturb(void) {
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMAX - 2};
    event._sigev_un._tid = syscall(SYS_gettid);
    struct itimerspec period = {{0, 301000}, {0, 301000}};
    timer_t timer;
    if (!timer_create(CLOCK_MONOTONIC, &event, &timer)) timer_settime(timer, 0, &period, 0);
}
static void account(int which, int got_eintr, double began, double least) {
    double took = now() - began;
    interrupted[which] += got_eintr;
    early += !got_eintr && took < least;
    late += took > 30; /* for ever, if each time it began anew */
}
void work(int turns) {
    int epoll = epoll_create1(0);
    struct timespec half = {0, 500000};
    for (int i = 0; i < turns; i++) {
        struct timespec left;
        struct timeval limit = {0, 500};
        double began;
        burn(i); began = now(); account(0, nanosleep(&half, &left) && errno == EINTR, began, 0.0005);
        burn(i); began = now(); account(1, clock_nanosleep(CLOCK_MONOTONIC, 0, &half, 0) == EINTR, began, 0.0005);
        burn(i); began = now(); account(2, usleep(500) && errno == EINTR, began, 0.0005);
        burn(i); began = now(); account(3, poll(0, 0, 1) < 0 && errno == EINTR, began, 0.0009);
        burn(i); began = now(); account(4, ppoll(0, 0, &half, 0) < 0 && errno == EINTR, began, 0.0005);
        burn(i); began = now(); account(5, select(0, 0, 0, 0, &limit) < 0 && errno == EINTR, began, 0.0005);
        burn(i); began = now(); account(6, pselect(0, 0, 0, 0, &half, 0) < 0 && errno == EINTR, began, 0.0005);
        struct epoll_event event;
        burn(i); began = now(); account(7, epoll_wait(epoll, &event, 1, 1) < 0 && errno == EINTR, began, 0.0009);
    }
    close(epoll);
}
"""
COUNT = """
import ctypes, json, sys
library = ctypes.CDLL(sys.argv[1])
library.disturb()
library.work(int(sys.argv[2]))
print(json.dumps([list((ctypes.c_int * 8).in_dll(library, "interrupted")),
                  ctypes.c_int.in_dll(library, "early").value, ctypes.c_int.in_dll(library, "late").value]))
"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_library(CALLS, tmp_path_factory.mktemp("calls"))


def test_the_sampler_ends_no_call(gil_python: Python, calls: Path, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    done = subprocess.run(
        [gil_python.executable, "-c", COUNT, calls, "100"], env=environment(tmp_path / "r", Options(rate_hz=100)),
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [[0] * 8, 0, 0]


ALARMS = """
import ctypes, signal, sys
library = ctypes.CDLL(sys.argv[1])
signal.signal(signal.SIGALRM, lambda *a: None)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
library.work(100)
signal.setitimer(signal.ITIMER_REAL, 0)
print(sum((ctypes.c_int * 8).in_dll(library, "interrupted")) > 5)
"""


def test_the_scripts_own_signals_still_do(gil_python: Python, calls: Path, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    done = subprocess.run(
        [gil_python.executable, "-c", ALARMS, calls], env=environment(tmp_path / "r", Options(rate_hz=1000)),
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert done.stdout == "True\n"


BURN = """
import os, resource, signal, sys, time
assert signal.getsignal(signal.SIGIO) == signal.SIG_DFL
resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, 0))
end = time.process_time() + 0.5
while time.process_time() < end: pass
assert signal.signal(signal.SIGIO, signal.SIG_DFL) == signal.SIG_DFL
while time.process_time() < end + 0.2: pass
print("whole", flush=True)
if len(sys.argv) > 1: os.kill(os.getpid(), signal.SIGIO)
"""


def test_a_script_that_leaves_no_room_for_signals_goes_on(any_python: Python, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    for words, status in ([], 0), (["end"], -29):
        done = subprocess.run(
            [any_python.executable, "-c", BURN, *words],
            env=environment(tmp_path / "r", Options(rate_hz=1000, sampler="perf")),
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (status, "whole\n"), done.stderr
    assert any("samples" in item.what for item in load(tmp_path / "r").not_observed)
