"""py-spy beside the target: a sampler outside it, for builds with the GIL. What it leaves lies in the recording."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

TRACE, FACTS, LOG = "py-spy.trace.json", "py-spy.json", "py-spy.log"
APPEARS_S = 10.0
ENDS_S = 10.0
LOOK_S = 0.01
MOST_HZ = 1000
# It needs 0.3 to 1 ms of CPU for a sample of four threads (reports/overhead): unasked, up to some 1.5 % of a core.
USUAL_HZ, USUAL_THREADS = 20, 4
USUAL_AFTER_S = 0.5  # so that what ends at once does not pay for its start
TOO_SHORT = "the script ended before it could attach"
REFUSED = "reading the script's memory (ptrace, process_vm_readv) is refused here"


def find() -> str | None:
    """On the PATH, or installed beside gilprobe."""
    beside = Path(sys.executable).parent / "py-spy"
    return shutil.which("py-spy") or (str(beside) if beside.exists() else None)


class PySpy:
    """Attached once the recorder has begun in `pid`: not before, as a shim may still be looking for its interpreter.

    Non-blocking: its pausing mode misreads half-busy threads. In a session of its own: a terminal's signals are the
    script's. py-spy returns 0 whatever the script returned (py-spy#717): its status says nothing about the script.
    """

    def __init__(self, program: str, pid: int, recording: Path, rate_hz: int, *, asked: bool) -> None:
        """asked: by the user; else it comes later, rarely, and for many threads still more rarely."""
        self._program = program
        self._pid = pid
        self._recording = recording
        self._rate_hz = min(rate_hz, MOST_HZ if asked else USUAL_HZ)
        self._asked = asked
        self._facts: dict[str, object] = {"pid": pid, "asked": asked, "problem": ""}
        self._process: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        self._starter = threading.Thread(target=self._start, name="py-spy", daemon=True)
        self._starter.start()

    def finish(self) -> None:
        """After the target has ended: waits until the trace is written."""
        self._over.set()
        self._starter.join()
        if self._process is None and not self._asked and not self._facts["problem"]:
            return  # too short a script
        if self._process is None:
            self._facts["problem"] = self._facts["problem"] or TOO_SHORT
        else:
            failed_before = _has_ended(self._process)
            status, cpu_s = _end_of(self._process)
            self._facts["cpu_s"] = cpu_s
            if status or not (self._recording / TRACE).exists():
                reason = _reason(self._recording / LOG)
                if not failed_before and reason != REFUSED:  # it complains of a process that it does not find
                    if not self._asked:
                        (self._recording / LOG).unlink(missing_ok=True)
                        return
                    reason = TOO_SHORT
                self._facts["problem"] = reason or f"it ended with status {status}"
        (self._recording / FACTS).write_text(json.dumps(self._facts))

    def _start(self) -> None:
        end = time.monotonic() + APPEARS_S
        while not any(self._recording.glob(f"{self._pid}-*")):
            if self._over.wait(LOOK_S) or time.monotonic() > end:
                return
        if not self._asked:
            if self._over.wait(USUAL_AFTER_S):
                return
            self._rate_hz = max(1, self._rate_hz * USUAL_THREADS // max(USUAL_THREADS, self._threads()))
        self._facts["rate_hz"] = self._rate_hz
        command = [
            self._program, "record", "--pid", str(self._pid), "--nonblocking", "--idle", "--threads",
            "--full-filenames", "--format", "chrometrace", "--rate", str(self._rate_hz),
            "--output", str(self._recording / TRACE),
        ]  # fmt: skip
        try:
            with (self._recording / LOG).open("wb") as log:
                self._facts["before_ns"] = time.monotonic_ns()
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
                # It has been exec'ed; its clock starts some milliseconds later.
                self._facts["start_ns"] = time.monotonic_ns()
        except OSError as error:
            self._facts["problem"] = f"it could not be started: {error.strerror}"

    def _threads(self) -> int:
        try:
            return len(list(Path(f"/proc/{self._pid}/task").iterdir()))
        except OSError:
            return 1


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end_of(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Its exit status and CPU seconds. It ends by itself once the target has; if not, it is told to, then made to."""
    for number, patience_s in ((None, ENDS_S), (signal.SIGINT, ENDS_S), (signal.SIGKILL, ENDS_S)):
        if number is not None:
            process.send_signal(number)
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                return process.returncode, usage.ru_utime + usage.ru_stime
            time.sleep(LOOK_S)
    return -1, 0.0


def _reason(log: Path) -> str:
    """py-spy prints the cause last, after `Reason:` or `Caused by`; what is refused is told from it."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    if any("Permission denied" in line or "Operation not permitted" in line for line in lines):
        return REFUSED
    causes = [line for line in lines if line.startswith(("Error:", "Reason:"))]
    return (causes or lines or [""])[0].removeprefix("Error:").removeprefix("Reason:").strip()
