"""Ways in which an iteration ends. Each runs in a process of its own, so that a hang is seen as one."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("torch", reason="the loader needs torch: install gilprobe[loader]")

# Importing torch took two minutes on a loaded machine.
HANG_S = 600

PRELUDE = """
import gc, os, signal, sys, threading, time, warnings, weakref
warnings.simplefilter("ignore")
import torch
from torch.utils.data import Dataset, get_worker_info
from gilprobe.loader import ThreadDataLoader

class Rows(Dataset):
    act = staticmethod(lambda index: None)
    def __len__(self): return 40
    def __getitem__(self, index):
        type(self).act(index)
        return index

def workers(): return [t for t in threading.enumerate() if t.name.startswith("gilprobe-loader")]
def loader(act=None, **options):
    if act is not None: Rows.act = staticmethod(act)
    return ThreadDataLoader(Rows(), 4, num_workers=2, **options)
def gone():
    for thread in workers(): thread.join(10)
    return not workers()
"""

ENDS = {
    "exhausted": "assert len(list(loader())) == 10; assert gone()",
    "break": "for batch in loader(): break\nassert gone()",
    "del": "it = iter(loader()); next(it); del it; assert gone()",
    "without_cycles": "gc.disable(); it = iter(loader()); next(it); r = weakref.ref(it); del it; assert r() is None",
    "loader_without_cycles": (
        "gc.disable(); l = loader(persistent_workers=True); list(l); r = weakref.ref(l); del l; assert r() is None; assert gone()"
    ),
    "exit_while_iterating": "it = iter(loader(lambda i: time.sleep(0.01))); next(it)",
    "exit_with_persistent": "l = loader(persistent_workers=True); next(iter(l))",
    "never_returns": """
        forever = threading.Event()
        it = iter(loader(lambda i: forever.wait() if i == 0 else None, timeout=0.5))
        try: next(it)
        except RuntimeError as e: assert str(e) == "DataLoader timed out after 0.5 seconds", e
        else: raise SystemExit(9)
        assert any(t.daemon for t in workers())
    """,
    "base_exception": """
        def act(i):
            if i == 0: raise KeyboardInterrupt
            if i == 4: sys.exit(3)
        it = iter(loader(act)); told = []
        for _ in range(10):
            try: next(it)
            except RuntimeError as e: told.append(str(e).split(".")[0])
        assert told == ["Caught KeyboardInterrupt in DataLoader worker thread 0", "Caught SystemExit in DataLoader worker thread 1"], told
    """,
    "killed_from_outside": """
        import ctypes
        it = iter(loader(persistent_workers=False, prefetch_factor=1)); next(it)
        for t in workers(): ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(t.ident), ctypes.py_object(SystemExit))
        try:
            while True: next(it)
        except RuntimeError as e: assert "SystemExit" in str(e), e
        except StopIteration: raise SystemExit(9)
    """,
    "returns_none": "l = ThreadDataLoader([None] * 4, num_workers=1, collate_fn=lambda x: x); assert list(l) == [[None]] * 4",
    "init_fails": """
        def init(worker_id): raise OSError("no such device")
        try: list(ThreadDataLoader(Rows(), 4, num_workers=2, worker_init_fn=init))
        except OSError as e: assert "Caught OSError in DataLoader worker thread 0" in str(e) and "no such device" in str(e)
        else: raise SystemExit(9)
    """,
    "nested": """
        def act(i): assert [int(b) for b in ThreadDataLoader([1, 2], num_workers=1)] == [1, 2] and get_worker_info() is not None
        assert len(list(loader(act))) == 10 and get_worker_info() is None
    """,
    "two_at_once": "l = loader(); assert [torch.equal(a, b) for a, b in zip(l, l)] == [True] * 10",
    "break_then_persistent_again": """
        l = loader(persistent_workers=True, shuffle=True)
        for _ in range(5):
            for batch in l: break
            time.sleep(0.05)  # batches of the broken-off epoch come in
            assert torch.cat(list(l)).sort().values.tolist() == list(range(40))
    """,
    "stats_during": """
        l = loader(); it = iter(l); next(it); s = l.stats(); assert s.batches == 1 and len(s.workers) == 2
        assert len(list(it)) == 9; s = l.stats()
        assert s.batches == 10 == sum(w.batches for w in s.workers) and 1 <= s.queue_depth_max <= s.in_flight_max == 4, s
        assert all(w.dataset_s > 0 and w.collate_s > 0 for w in s.workers)
    """,
}


def run(body: str) -> subprocess.Popen[str]:
    code = PRELUDE + textwrap.dedent(body)
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("end", ENDS)
def test_ends_cleanly(end: str) -> None:
    process = run(ENDS[end])
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 0 and "Traceback" not in err, err


def test_ctrl_c_reaches_a_consumer_that_waits() -> None:
    process = run("""
        def act(i):
            if i == 0: print("waiting", flush=True); time.sleep(1000)
        try:
            next(iter(loader(act)))
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    # Again and again, as a person would: one that comes while a weak reference's callback runs is swallowed there.
    # Never while it exits: that one would end it.
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        if select.select([process.stdout], [], [], 25)[0]:
            break
    out, err = process.communicate(timeout=HANG_S)
    assert out == "interrupted\n" and process.returncode == 0, err
