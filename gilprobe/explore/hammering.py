"""`hammer`: many real threads at once on what cannot be controlled, in a child whose crash is a finding.

The child runs rounds: all threads meet at a barrier and call the function; the switch interval is tiny, yields come at
random.
It logs through a shared mapping, which outlives a segmentation fault.
"""

from __future__ import annotations

import contextlib
import faulthandler
import inspect
import mmap
import os
import random
import signal
import struct
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

from gilprobe.errors import UsageError
from gilprobe.explore.engine import files_of
from gilprobe.explore.points import UnderTest
from gilprobe.explore.result import FAILED, NOT_FOUND, UNCONTROLLED, Result

_LOG_BYTES = 1 << 16
_SLOT = struct.Struct("=QQ")  # rounds finished, calls begun, per thread
_HANG_S = 5.0  # without any progress after the budget has ended
_HANG_LOOKS = 100  # of the parent, 5 ms apart at least


def hammer(fn: Callable[..., Any], *, threads: int = 8, budget_s: float = 10.0, seed: int = 0) -> Result:
    """Calls `fn` from `threads` threads at once until it raises, crashes its process or the budget ends.

    fn takes nothing, or one argument: the number of its thread. It runs in a forked child.
    """
    if not callable(fn):
        raise UsageError(f"{fn!r} is not callable", "hammer() takes a function")
    takes_number = _takes_one(fn)
    started = _cpu()
    shared = mmap.mmap(-1, _LOG_BYTES + _SLOT.size * threads)
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of fork with threads; the child starts its own
        child = os.fork()
    if child == 0:
        os.close(reader)
        _child(fn, takes_number, threads, budget_s, seed, shared, writer)
    os.close(writer)
    status, text = _wait(child, reader, budget_s, lambda: shared[_LOG_BYTES:])
    calls = sum(_SLOT.unpack_from(shared, _LOG_BYTES + _SLOT.size * n)[1] for n in range(threads))
    log = "\n".join(
        f"  thread {n}: call {begun}, {done} ended"
        for n in range(threads)
        for done, begun in [_SLOT.unpack_from(shared, _LOG_BYTES + _SLOT.size * n)]
    )
    shared.close()
    cpu = _cpu() - started
    name = getattr(fn, "__qualname__", repr(fn))
    labels = tuple((name,) for _ in range(threads))
    if status is None:
        story = (
            f"UNCONTROLLED: {name} hung: no call ended in {_HANG_S:.0f} s after the budget (seed {seed})\n{log}\n{text}"
        )
        return Result(UNCONTROLLED, None, None, calls, cpu, seed, labels, story=story)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        what = signal.Signals(number).name
        story = f"FAILED (crash): {name} ended its process with {what}, {threads} threads, seed {seed}\n{log}\n{text}"
        return Result(FAILED, "crash", None, calls, cpu, seed, labels, story=story)
    code = os.WEXITSTATUS(status)
    if code == 1:
        story = f"FAILED (exception): {name}, {threads} threads, seed {seed}\n{text}\n{log}"
        return Result(FAILED, "exception", None, calls, cpu, seed, labels, story=story)
    if code != 0:
        story = f"FAILED (crash): {name} ended its process with status {code}, seed {seed}\n{log}\n{text}"
        return Result(FAILED, "crash", None, calls, cpu, seed, labels, story=story)
    return Result(NOT_FOUND, None, None, calls, cpu, seed, labels, story=f"{calls} calls, nothing found")


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _takes_one(fn: Callable[..., Any]) -> bool:
    try:
        inspect.signature(fn).bind()
    except TypeError:
        return True
    except ValueError:
        return False
    return False


def _wait(child: int, reader: int, budget_s: float, calls: Callable[[], bytes]) -> tuple[int | None, str]:
    """The child's wait status (None: it hung and was killed) and what it said."""
    end = time.monotonic() + budget_s + _HANG_S
    looks, last = 0, calls()
    chunks: list[bytes] = []
    os.set_blocking(reader, False)
    status: int | None = None
    while True:
        try:
            while chunk := os.read(reader, 65536):
                chunks.append(chunk)
        except BlockingIOError:
            pass
        if status is not None:
            break
        pid, found = os.waitpid(child, os.WNOHANG)
        if pid:
            status = found
            continue
        looks += 1
        if time.monotonic() < end - _HANG_S:
            last = calls()
        if time.monotonic() > end and last != (last := calls()):  # a call began or ended: it is slow
            end, looks = time.monotonic() + _HANG_S, 0
        elif time.monotonic() > end and looks > _HANG_LOOKS:  # nor was the process stopped so long
            os.kill(child, signal.SIGABRT)  # faulthandler writes every thread's stack
            time.sleep(0.2)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            with contextlib.suppress(BlockingIOError):
                chunks.append(os.read(reader, 1 << 20))
            break
        time.sleep(0.005)
    os.close(reader)
    return status, b"".join(chunks)[-8000:].decode(errors="replace")


def _child(
    fn: Callable[..., Any], takes_number: bool, threads: int, budget_s: float, seed: int, shared: mmap.mmap, writer: int
) -> None:
    """Never returns."""
    code = 70
    try:
        faulthandler.enable(writer, all_threads=True)
        code = _rounds(fn, takes_number, threads, budget_s, seed, shared, writer)
    finally:
        os._exit(code)


def _yielding(rng: random.Random, under: UnderTest) -> Callable[..., Any]:
    """A trace function that gives the processor away before a line of the code under test, now and then."""

    def local(_frame: FrameType, _event: str, _arg: Any) -> Any:
        if rng.random() < 0.05:
            time.sleep(rng.choice((0.0, 0.0, 1e-5, 1e-4)))
        return local

    def call(frame: FrameType, _event: str, _arg: Any) -> Any:
        if not under.has(frame.f_code.co_filename):
            return None
        frame.f_trace_opcodes = sys.version_info < (3, 12)  # later ones lose most of these events with several threads
        return local

    return call


def _rounds(
    fn: Callable[..., Any], takes_number: bool, threads: int, budget_s: float, seed: int, shared: mmap.mmap, writer: int
) -> int:
    sys.setswitchinterval(1e-5)
    end = time.monotonic() + budget_s
    barrier = threading.Barrier(threads)
    under = UnderTest(set(files_of(fn)))
    failed = threading.Event()
    first = threading.Lock()

    def work(number: int) -> None:
        rng = random.Random(seed * 1_000_003 + number)
        begun = done = 0
        at = _LOG_BYTES + _SLOT.size * number
        tracer = _yielding(rng, under)
        while not failed.is_set() and (begun == 0 or time.monotonic() < end):
            try:
                barrier.wait()
                sys.settrace(tracer if rng.random() < 0.5 else None)
                for _ in range(rng.randrange(1, 20)):
                    begun += 1
                    _SLOT.pack_into(shared, at, done, begun)
                    if rng.random() < 0.3:
                        time.sleep(rng.choice((0.0, 0.0, 1e-5)))
                    if takes_number:
                        fn(number)
                    else:
                        fn()
                    done += 1
                    _SLOT.pack_into(shared, at, done, begun)
            except threading.BrokenBarrierError:
                sys.settrace(None)
                return
            except BaseException:
                with first:
                    if not failed.is_set():
                        failed.set()
                        os.write(writer, traceback.format_exc().encode()[-6000:])
                barrier.abort()
                return
        barrier.abort()

    workers = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return 1 if failed.is_set() else 0
