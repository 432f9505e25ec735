"""One run of the target: its command line, its environment, signals on the way to it, its exit status."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from gilprobe.errors import TargetError
from gilprobe.launch.interpreter import Interpreter
from gilprobe.launch.py_spy import PySpy
from gilprobe.launch.witness import Witness
from gilprobe.native_library import library

# Sent to gilprobe alone by a supervisor: the script is the one meant.
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True, slots=True)
class Target:
    """arguments: what follows the interpreter on its command line. name: for the recording's file name."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Options:
    events: bool = False
    rate_hz: int = 100
    sampler: str = "auto"
    prove: bool = False
    counter: str = ""  # TYPE:CONFIG of perf_event_open, counted in place of the processor's own event: for tests
    cuda: bool = False
    cupti: str = ""
    py_spy: str | None = None  # the program to run beside the target
    py_spy_asked: bool = False
    watchdog_s: float | None = None  # the limit of a stall; None = no watchdog
    on_deadlock: str = "report"
    cuda_raw: int = 0

    def variable(self) -> str:
        parts = [f"events={int(self.events)}", f"rate={self.rate_hz}"]
        if self.sampler != "auto":
            parts.append(f"sampler={self.sampler}")
        if self.counter:
            parts.append(f"counter={self.counter}")
        if self.prove:
            parts.append("prove=1")
        if self.cuda:
            parts += ["cuda=1", *([f"cuda_raw={self.cuda_raw}"] if self.cuda_raw else [])]
            parts += [f"cupti={self.cupti}"] if self.cupti else []
        if self.py_spy and self.events:
            parts.append("holds=1")
        if self.watchdog_s is not None:
            parts += [f"watchdog_ms={max(1, round(1000 * self.watchdog_s))}", f"on_deadlock={self.on_deadlock}"]
        return ",".join(parts)


def target_of(words: Sequence[str], *, module: str | None, code: str | None) -> Target:
    """The target that `python` would run. Raises TargetError if it plainly cannot."""
    if module is not None:
        return Target(module.rpartition(".")[2] or "module", ("-m", module, *words))
    if code is not None:
        return Target("code", ("-c", code, *words))
    if not words:
        raise TargetError(
            "no script given", "Usage: gilprobe profile [OPTIONS] (script.py | -m mod | -c code) [ARGS]..."
        )
    if words[0] == "-":
        return Target("stdin", tuple(words))
    script = Path(words[0])
    _check_script(script)
    return Target(script.stem or script.name, tuple(words))


def _check_script(script: Path) -> None:
    if not script.exists():
        raise TargetError(f"{script} does not exist", "Give the path of a Python script, or -m MODULE.")
    if script.is_dir():
        if not (script / "__main__.py").exists():
            raise TargetError(f"{script} is a folder without __main__.py", "Give the path of a Python script.")
        return
    try:
        with script.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise TargetError(f"{script} cannot be read: {error.strerror}", "Check its permissions.") from error
    if head[:2] != b"PK" and script.suffix != ".pyc" and (head[:4] == b"\x7fELF" or b"\0" in head):
        raise TargetError(f"{script} is not a Python script", "Give the path of a Python script, or -m MODULE.")


def environment(recording: Path, options: Options) -> dict[str, str]:
    variables = dict(os.environ)
    existing = variables.get("LD_PRELOAD")
    variables["LD_PRELOAD"] = str(library()) + (f":{existing}" if existing else "")
    variables["GILPROBE_RECORDING"] = str(recording.absolute())
    variables["GILPROBE_OPTIONS"] = options.variable()
    if options.cuda:
        variables["CUDA_INJECTION64_PATH"] = str(library())
    return variables


def run(interpreter: Interpreter, target: Target, recording: Path, options: Options, *, silent: bool = False) -> int:
    """Runs it to its end; its status as a shell gives it: 128 + N after signal N. silent: no input, no output."""
    child: subprocess.Popen[bytes] | None = None
    spy: PySpy | None = None
    pending: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        if child is None:
            pending.append(number)
        elif not witness.saw(number):
            child.send_signal(number)

    witness = Witness()
    # An ignored signal (nohup, a shell's background job) is inherited through exec: a handler here would end that.
    previous = {
        number: signal.signal(number, forward) for number in FORWARDED if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        child = subprocess.Popen(
            [str(interpreter.path), *target.arguments],
            env=environment(recording, options),
            # Python would leave the child our handlers' absence, but not the ignored signals it set itself.
            restore_signals=True,
            close_fds=False,
            stdin=subprocess.DEVNULL if silent else None,
            stdout=subprocess.DEVNULL if silent else None,
            stderr=subprocess.DEVNULL if silent else None,
        )
        for number in pending:
            child.send_signal(number)
        if options.py_spy:
            spy = PySpy(options.py_spy, child.pid, recording, options.rate_hz, asked=options.py_spy_asked)
        status = child.wait()
    except OSError as error:
        raise TargetError(f"{interpreter.path} could not be started: {error.strerror}", "Check --python.") from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        witness.close()
    if spy:
        spy.finish()
    return 128 - status if status < 0 else status
