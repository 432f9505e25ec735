"""What can be observed on this machine, each found by trying it."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gilprobe.errors import TargetError
from gilprobe.launch import py_spy
from gilprobe.launch.interpreter import obstacle

PERF_EVENT_OPEN = 298  # x86-64
SOFTWARE, TASK_CLOCK, HARDWARE, CPU_CYCLES = 1, 1, 0, 0
EXCLUDE_KERNEL_AND_HYPERVISOR = 1 << 5 | 1 << 6
PRECISE_2 = 2 << 15
EVENT_SOURCES = Path("/sys/bus/event_source/devices")
TIMEOUT_S = 60

# Runs in the interpreter that is asked about; imports what it is told to and watches the GIL.
ASK = """
import importlib, json, sys, sysconfig, warnings
warnings.simplefilter("ignore")
enabled = getattr(sys, "_is_gil_enabled", lambda: True)
seen = {"version": sys.version.split()[0], "executable": sys.executable,
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")), "gil_at_start": enabled(), "imports": []}
for name in sys.argv[1:]:
    before = enabled()
    try:
        importlib.import_module(name)
        seen["imports"].append([name, "turned the GIL on" if enabled() and not before else "left the GIL as it was"])
    except BaseException as error:
        seen["imports"].append([name, f"failed: {type(error).__name__}: {error}"])
seen["gil"] = enabled()
print(json.dumps(seen))
"""


@dataclass(frozen=True, slots=True)
class Check:
    """state: `ok`, `limited` or `missing`."""

    name: str
    state: str
    detail: str


def interpreter_facts(python: str, modules: list[str]) -> list[Check]:
    done = subprocess.run([python, "-c", ASK, *modules], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    try:
        facts = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise TargetError(f"{python} is no working Python", "Give --python the path of an interpreter.") from error
    build = "free-threaded" if facts["free_threaded"] else "with the GIL"
    checks = [Check("interpreter", "ok", f"Python {facts['version']}, {build}")]
    if facts["free_threaded"]:
        state = "limited" if facts["gil"] else "ok"
        checks.append(Check("GIL", state, "on" if facts["gil"] else "off"))
        if facts["gil_at_start"]:
            checks.append(Check("GIL at start", "limited", "on before any import: -X gil=1 or PYTHON_GIL=1"))
    checks += [
        Check(f"import {name}", "ok" if "failed" not in what and "turned" not in what else "limited", what)
        for name, what in facts["imports"]
    ]
    minor = int(facts["version"].split(".")[1])
    if not 11 <= minor <= 15:
        checks.append(Check("Python stacks", "missing", f"3.{minor} is not known: waits are recorded without them"))
    return checks


def preloading(python: Path) -> list[Check]:
    problem = obstacle(python)
    checks = [
        Check("preloading", "missing" if problem else "ok", f"the interpreter {problem}" if problem else "possible")
    ]
    if os.environ.get("LD_PRELOAD"):
        checks.append(Check("LD_PRELOAD", "ok", "already set: the recorder is put before it"))
    if _seccomp():
        checks.append(Check("seccomp", "limited", "a filter is active: perf or process_vm_readv may be refused"))
    return checks


def _seccomp() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Seccomp:"):
            return line.split()[1] == "2"
    return False


def sampling() -> list[Check]:
    refused = _perf(SOFTWARE, TASK_CLOCK)
    checks = [
        Check("perf task clock", "ok", "samples at any rate")
        if refused is None
        else Check("perf task clock", "limited", f"{refused}: a timer on each thread's CPU clock serves, up to 250 Hz")
    ]
    refused = _perf(HARDWARE, CPU_CYCLES)
    checks.append(
        Check("hardware counters", "ok", "present")
        if refused is None
        else Check("hardware counters", "limited", f"{refused}: hot objects are found without them")
    )
    checks.append(_cache_events())
    paranoid = Path("/proc/sys/kernel/perf_event_paranoid")
    if paranoid.exists():
        checks.append(Check("perf_event_paranoid", "ok", paranoid.read_text().strip()))
    return checks


def _cache_events() -> Check:
    """Loads that hit a line another core has modified: Intel's load latency event, AMD's instruction-based sampling."""
    name = "cache events"
    for device, event in (("cpu", "mem-loads"), ("cpu_core", "mem-loads"), ("ibs_op", "")):
        folder = EVENT_SOURCES / device
        try:
            kind = int((folder / "type").read_text())
            config = _config((folder / "events" / event).read_text()) if event else {}
        except (OSError, ValueError):
            continue
        precise = 0 if device == "ibs_op" else PRECISE_2
        umask = config.get("event", 0) | config.get("umask", 0) << 8
        refused = _perf(kind, umask, precise, config.get("ldlat", 0))
        if refused is None:
            return Check(name, "ok", f"{device} has them: perf c2c can confirm a hot object")
        return Check(name, "limited", f"{device} has them, {refused}: hot objects rest on sampled registers alone")
    return Check(name, "limited", "none on this machine: hot objects rest on sampled registers alone")


def _config(text: str) -> dict[str, int]:
    """event=0xcd,umask=0x1,ldlat=3 as sysfs has it. Raises ValueError for what is none."""
    return {key: int(value, 0) for key, _, value in (part.partition("=") for part in text.strip().split(",")) if value}


def _perf(kind: int, config: int, flags: int = 0, config1: int = 0) -> str | None:
    """None if such an event can be opened on this thread, else the reason."""
    flags |= EXCLUDE_KERNEL_AND_HYPERVISOR | 1
    # Up to config1, which follows wakeup_events and bp_type: struct perf_event_attr, PERF_ATTR_SIZE_VER5.
    attributes = struct.pack("<IIQQQQQIIQ", kind, 112, config, 1_000_000, 0, 0, flags, 0, 0, config1)
    buffer = ctypes.create_string_buffer(attributes.ljust(112, b"\0"))
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(PERF_EVENT_OPEN, buffer, 0, -1, ctypes.c_int(-1), ctypes.c_ulong(0))
    if fd >= 0:
        os.close(fd)
        return None
    number = ctypes.get_errno()
    return os.strerror(number) if number != errno.ENOENT else "no such event on this machine"


def tracing() -> list[Check]:
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    level = scope.read_text().strip() if scope.exists() else "0"
    state = "ok" if level == "0" else "limited"
    checks = [Check("ptrace", state, f"scope {level}" + ("" if state == "ok" else ": only children can be traced"))]
    checks.append(
        Check("py-spy", "ok", "installed; it cannot read free-threaded builds")
        if py_spy.find()
        else Check("py-spy", "limited", "not installed: the native sampler serves")
    )
    return checks
