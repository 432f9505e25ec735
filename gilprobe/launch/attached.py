"""A recording that begins and ends in a process that runs already, and knows nothing of us."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gilprobe.errors import GilprobeError, PlatformError, TargetError
from gilprobe.launch.elf_images import ElfImage, images
from gilprobe.launch.ptrace import CallFailed, StoppedThread
from gilprobe.native_library import LIBRARY, library

AT_WORK = 1  # native/attached.c
RTLD_NOW = 2
PATIENCE_S = 10.0
BETWEEN_TRIES_S = 0.002
# A thread blocked in one of these holds no lock of the loader's or the allocator's. In this order: the first ones are
# begun again by the kernel, the last end with EINTR, which Python's own calls put up with (PEP 475).
BLOCKED_IN = (
    202, 449,  # futex, futex_waitv
    7, 271, 23, 270,  # poll, ppoll, select, pselect6
    35, 230, 61, 34,  # nanosleep, clock_nanosleep, wait4, pause
    0, 45, 47, 43, 288,  # read, recvfrom, recvmsg, accept, accept4
    232, 281, 128,  # epoll_wait, epoll_pwait, rt_sigtimedwait
)  # fmt: skip
# The interpreter's loop allocates and loads nothing itself: in it a thread holds none of those locks either.
LOOP = "_PyEval_EvalFrameDefault"


class Attached:
    """One process. Each of its methods stops one thread of it for the time of a call or two.

    Raises TargetError for what is no process, or no CPython; GilprobeError where it may not be traced.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        try:
            found = images(pid)
        except (FileNotFoundError, ProcessLookupError) as error:
            raise TargetError(f"there is no process {pid}", "ps shows those that run.") from error
        except PermissionError as error:
            raise self._not_allowed() from error
        self._loop = _loop(found)
        if not self._loop:
            raise TargetError(
                f"process {pid} is no CPython", "Give the number of the Python process itself, not of its shell."
            )
        self._dlopen = _first(found, "dlopen", "__libc_dlopen_mode")
        if not self._dlopen:
            raise PlatformError(f"process {pid} has no glibc", "It can be recorded where glibc is.")

    def begin(self, recording: Path, options: str) -> None:
        """recording: a folder, by its absolute path, that the process can write to."""
        path = str(library().resolve())  # as the kernel names it
        to_load = ElfImage(path, 0, Path(f"/proc/{self._pid}/root{path}"))
        if not to_load.readable.exists():
            raise GilprobeError(
                f"process {self._pid} does not see {path}: it has a file system of its own",
                "Install gilprobe in its container, and attach there.",
            )
        at = to_load.functions("gilprobe_attach")["gilprobe_attach"][0]
        with self._stopped_thread() as thread:
            if not thread.call(self._dlopen, (path.encode() + b"\0", RTLD_NOW)):
                raise GilprobeError(
                    f"process {self._pid} could not load {path}", "gilprobe doctor tells what is in the way there."
                )
            (loaded,) = [image.start for image in images(self._pid) if image.path == path]
            self._check(thread.call(loaded + at, (os.fsencode(recording) + b"\0", options.encode() + b"\0")))
        self._check(self._result())

    def end(self) -> None:
        """Does nothing where the process has ended. Raises GilprobeError where it is not being recorded."""
        try:
            address = self._addresses()["gilprobe_detach"]
            with self._stopped_thread() as thread:
                self._check(thread.call(address, ()))
            left = self._result()
            self._check(left)
        except (GilprobeError, OSError):
            if self.lives:
                raise
            return
        if left > 0:
            raise GilprobeError(
                f"{left} entries of import tables could not be put back", "They lead to hooks that do nothing now."
            )

    @property
    def lives(self) -> bool:
        try:
            state = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state not in "ZX"

    def _result(self) -> int:
        address = self._addresses()["gilprobe_attached"]
        end = time.monotonic() + PATIENCE_S
        while True:
            with open(f"/proc/{self._pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123
                memory.seek(address)
                result = int.from_bytes(memory.read(4), "little", signed=True)
            if result != AT_WORK:
                return result
            if time.monotonic() > end:
                raise GilprobeError(
                    f"process {self._pid} did not answer within {PATIENCE_S:.0f} s", "Is it stopped? Let it go on."
                )
            time.sleep(BETWEEN_TRIES_S)

    def _addresses(self) -> dict[str, int]:
        wanted = ("gilprobe_attach", "gilprobe_detach", "gilprobe_attached")
        for image in images(self._pid):
            if image.name == LIBRARY.name:
                found = image.functions(*wanted)
                if len(found) == len(wanted):
                    return {name: address for name, (address, _) in found.items()}
        raise GilprobeError(f"process {self._pid} is not being recorded", "Begin with gilprobe attach PID.")

    @contextmanager
    def _stopped_thread(self) -> Iterator[StoppedThread]:
        """Of a thread that can be asked to call something. Raises ProcessLookupError where the process ends."""
        # Ctrl-C in the midst of it would leave the thread with registers that are not its own.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
        try:
            with self._find() as thread:
                yield thread
        except PermissionError as error:
            raise self._not_allowed() from error
        except CallFailed as error:
            raise GilprobeError(
                f"a call in process {self._pid} failed with {error}", "The process goes on; nothing is recorded."
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def _find(self) -> StoppedThread:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            for tid in self._candidates():
                thread = StoppedThread(tid)
                try:
                    thread.stop()
                except ProcessLookupError:
                    continue
                if self._may_call(thread):
                    return thread
                thread.let_go()
            time.sleep(BETWEEN_TRIES_S)
        raise GilprobeError(
            f"no thread of process {self._pid} came to where it can be asked within {PATIENCE_S:.0f} s",
            "All of them are in native code: try again.",
        )

    def _candidates(self) -> list[int]:
        """Threads' ids, the best first. The main thread's stack is the largest."""
        ranked = []
        for task in Path(f"/proc/{self._pid}/task").iterdir():
            try:
                word = (task / "syscall").read_text().split()[0]
            except (FileNotFoundError, ProcessLookupError):
                continue
            tid = int(task.name)
            if word == "running":
                ranked.append((len(BLOCKED_IN), tid))
            elif word.isdigit() and int(word) in BLOCKED_IN:
                rank = BLOCKED_IN.index(int(word))
                ranked.append((-1 if tid == self._pid and rank < 2 else rank, tid))
        return [tid for _, tid in sorted(ranked)]

    def _may_call(self, thread: StoppedThread) -> bool:
        if thread.system_call is not None:
            return thread.system_call in BLOCKED_IN
        return any(start <= thread.pc < start + size for start, size in self._loop)

    def _check(self, result: int) -> None:
        number = -_signed(result)
        if number <= 0:
            return
        if number == errno.EBUSY:
            raise GilprobeError(
                f"process {self._pid} is being recorded already",
                "One recording at a time. What an attach left that was killed ends with: gilprobe attach --end PID.",
            )
        if number == errno.EINVAL:
            raise GilprobeError(f"process {self._pid} is not being recorded", "Begin with gilprobe attach PID.")
        raise GilprobeError(
            f"process {self._pid} could not begin to record: {os.strerror(number)}",
            "Can it write to the recording's folder? Name another with -o.",
        )

    def _not_allowed(self) -> GilprobeError:
        scope = Path("/proc/sys/kernel/yama/ptrace_scope")
        if os.geteuid() and scope.exists() and scope.read_text().strip() != "0":
            how = "Run as root, or let your own processes be traced: sysctl kernel.yama.ptrace_scope=0."
        else:
            how = "Run as its user or as root; in a container, with the capability SYS_PTRACE. A debugger must let go."
        return GilprobeError(f"process {self._pid} may not be traced", how)


def _loop(found: Sequence[ElfImage]) -> list[tuple[int, int]]:
    named = [image for image in found if "python" in image.name]
    return [where for image in [*found[:1], *named] if (where := _function(image, LOOP))]


def _first(found: Sequence[ElfImage], *names: str) -> int:
    """The address of the first of these that any library has; 0 where none has one."""
    libraries = [image for image in found if image.name.startswith(("libc.", "libc-", "libdl."))]
    for name in names:
        for image in libraries:
            if where := _function(image, name):
                return where[0]
    return 0


def _function(image: ElfImage, name: str) -> tuple[int, int] | None:
    try:
        return image.functions(name).get(name)
    except (OSError, ValueError):
        return None


def _signed(value: int) -> int:
    """An int that came in a 64-bit register."""
    low = value & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low
