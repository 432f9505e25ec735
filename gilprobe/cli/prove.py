"""gilprobe profile --prove N: two more runs of the script, one with its hottest objects frozen, one without."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from gilprobe.errors import GilprobeError, TargetError
from gilprobe.launch import Interpreter, Options, Target, run
from gilprobe.launch.control import MOST, Control
from gilprobe.model import HotObject

PROOF_FOLDER = "proof"
LEAST_RATE_HZ = 500
MOST_TRIES = 3  # of a control and a freezing run, where the machine or the program is too restless
LEAST_SHARE = 0.01
LEAST_SAMPLES = 60
LOOK_EVERY_S = 0.25
RECENT_NS = 1_000_000_000
# The second before the freeze must be the target's alone: our own analysis takes a core.
QUIET_S = 1.1
FREE_THREADED = "import sysconfig; raise SystemExit(not sysconfig.get_config_var('Py_GIL_DISABLED'))"


def check_build(interpreter: Interpreter) -> None:
    """Raises TargetError for a build with the GIL."""
    if subprocess.run([interpreter.path, "-c", FREE_THREADED], check=False, capture_output=True).returncode:
        raise TargetError(
            f"--prove needs a free-threaded Python, {interpreter.path} has the GIL",
            "With the GIL, threads do not fight over reference counts: there is nothing to freeze. Leave --prove out.",
        )


def prove_recording(
    interpreter: Interpreter, target: Target, recording: Path, options: Options, most_objects: int, status: int
) -> None:
    """Reruns the script twice, silently, into the recording's folder; says so where there is nothing to prove.

    Again where the control was too restless.
    """
    from gilprobe.analysis import load
    from gilprobe.analysis.proof import FOLDER, proof_of, restless

    if status:
        _say(f"nothing proved: the script ended with status {status}, so it was not run again")
        return
    if not any(hot.share >= LEAST_SHARE for hot in load(recording).hot_objects):
        _say("nothing to prove: no object is hot, so the script was not run again")
        return
    for attempt in range(1, MOST_TRIES + 1):
        (recording / FOLDER).mkdir()
        if not _rerun(interpreter, target, recording / FOLDER, options, most_objects):
            return
        proof = proof_of(recording, salvage=True)
        if proof is None or not restless(proof) or attempt == MOST_TRIES:
            return
        _say(f"the control changed by {proof.control:+.0%} without any freezing: both runs once more")
        shutil.rmtree(recording / FOLDER)


def _rerun(interpreter: Interpreter, target: Target, proof_folder: Path, options: Options, most_objects: int) -> bool:
    """The control, then the run that freezes. False where one of them failed."""
    from gilprobe.analysis.proof import CONTROL, FROZEN

    rerun = Options(rate_hz=max(options.rate_hz, LEAST_RATE_HZ), sampler=options.sampler, prove=True)
    for number, (name, count) in enumerate(((CONTROL, 0), (FROZEN, min(most_objects, MOST))), 2):
        what = f"freezing up to {count} objects" if count else "the control, freezing nothing"
        _say(f"run {number} of 3, {what}; its output is discarded")
        folder = proof_folder / name
        folder.mkdir()
        with Control(folder) as control:
            freezer = _Freezer(folder, control, count)
            freezer.start()
            try:
                status = run(interpreter, target, folder, rerun, silent=True)
            finally:
                freezer.over.set()
                freezer.join()
        if status:
            _say(f"run {number} ended with status {status}, unlike the first")
            return False
    return True


def _say(what: str) -> None:
    print(f"gilprobe: --prove: {what}", file=sys.stderr)


class _Freezer(threading.Thread):
    """Reads the growing recording until objects are hot in it, then gives the order. At most once a run."""

    def __init__(self, folder: Path, control: Control, count: int) -> None:
        super().__init__(name="freezer", daemon=True)
        self.over = threading.Event()
        self._folder, self._control, self._count = folder, control, count

    def run(self) -> None:
        while not self.over.wait(LOOK_EVERY_S):
            hot = self._hot_now() if self._control.pid else ()
            if hot:
                if not self.over.wait(QUIET_S):
                    self._control.freeze([(item.address, item.object_type) for item in hot[: self._count]])
                return

    def _hot_now(self) -> tuple[HotObject, ...]:
        from gilprobe.analysis.atomics import UNKNOWN_TYPE
        from gilprobe.analysis.proof import hot_in
        from gilprobe.recording import read_folder

        try:
            recordings = read_folder(self._folder, salvage=True)
        except GilprobeError:
            return ()
        now_ns = time.monotonic_ns()
        for recording in recordings:
            recent = recording.samples["time_ns"] >= now_ns - RECENT_NS
            if recording.header["pid"] == self._control.pid and recent.sum() >= LEAST_SAMPLES:
                hot = hot_in(recording, now_ns - RECENT_NS, now_ns)
                return tuple(item for item in hot if item.share >= LEAST_SHARE and item.object_type != UNKNOWN_TYPE)
        return ()
