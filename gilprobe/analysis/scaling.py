"""Against a recording of the same program with one worker: what each part of the ideal speed-up was lost to.

With n workers a run of t seconds has n * t worker-seconds; one worker had t1. Both are sums of the same classes, so

    n - t1 / t  =  sum over the classes of (their seconds here - their seconds with one worker) / t

which is ideal - actual, class by class: a class that took as long with one worker costs no speed-up. CPU and waiting
for a core come from the kernel, waits from the hooks; what the two leave over is the class `unaccounted`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from gilprobe.errors import RecordingError
from gilprobe.model import Evidence, Profile, Thread, Waterfall, WaterfallStep

IDLE_SHARE = 0.05  # a thread that does less than this share of its life is no worker
ALONGSIDE_SHARE = 0.5  # the main thread is one when it is busy for this share of the others' lives, and idle for less
ADVICE = "Record the same script once with one worker, with the same interpreter, and give that recording."


def with_waterfall(profile: Profile, baseline: Profile, *, work: float = 1.0) -> Profile:
    return replace(profile, waterfall=waterfall(profile, baseline, work=work))


def waterfall(profile: Profile, baseline: Profile, *, work: float = 1.0) -> Waterfall:
    """work: what this run did, in units of what the baseline did (workers that each do a fixed share: their number).

    The actual speed-up is work * the baseline's wall time / this run's. Raises RecordingError as check_comparable.
    """
    check_comparable(profile, baseline)
    ideal = workers(profile)
    wall_s = profile.meta["wall_s"]
    here, alone = _classes(profile, ideal), _classes(baseline, 1)
    # A class that neither run met is no step; the residual is always one.
    names = [name for name in here | alone if here[name] or alone[name] or name == "unaccounted"]
    estimated = {"atomic-stall", "cpu", "stolen"} if here["atomic-stall"] else {"stolen"}
    steps = [
        WaterfallStep(
            name,
            (here[name] - work * alone[name]) / wall_s,
            Evidence.ESTIMATED if name in estimated else Evidence.MEASURED,
        )
        for name in names
    ]
    steps.sort(key=lambda step: (step.name == "unaccounted", -step.speedup))
    return Waterfall(
        baseline=str(baseline.meta.get("recording", "")),
        ideal=float(ideal),
        actual=work * baseline.meta["wall_s"] / wall_s,
        steps=tuple(steps),
        work=work,
        baseline_wall_s=baseline.meta["wall_s"],
    )


def check_comparable(profile: Profile, baseline: Profile) -> None:
    """Raises RecordingError naming what differs, or why one of them says nothing about speed."""
    name = baseline.meta.get("recording", "the baseline")
    here, alone = profile.processes[0], baseline.processes[0]
    check_baseline(baseline, here.argv)
    if here.end == "none":
        raise RecordingError("this run was killed or still runs: its wall time says nothing", ADVICE)
    if here.python != alone.python:
        raise RecordingError(f"{name} is of another build: Python {alone.python}, not {here.python}", ADVICE)
    if here.free_threaded and here.gil_enabled != alone.gil_enabled:
        raise RecordingError(f"{name} was recorded with the GIL {'on' if alone.gil_enabled else 'off'}", ADVICE)


def check_baseline(baseline: Profile, argv: Sequence[str]) -> None:
    """Raises RecordingError unless it is a whole run with one worker of the program with this command line."""
    name = baseline.meta.get("recording", "the baseline")
    alone = script_of(baseline.processes[0].argv)
    if alone != script_of(argv):
        raise RecordingError(f"{name} is of another program: {alone}, not {script_of(argv)}", ADVICE)
    if baseline.processes[0].end == "none" or baseline.meta["wall_s"] <= 0:
        raise RecordingError(f"{name} was killed or still runs: its wall time says nothing", ADVICE)
    count = workers(baseline)
    if count != 1:
        raise RecordingError(f"{name} has {count} workers, not one", ADVICE)


def script_of(argv: Sequence[str]) -> str:
    """The script's file name, or -m and the module, or -c and a part of the code."""
    for at, word in enumerate(argv[1:], 1):
        if word in ("-m", "-c"):
            return " ".join(argv[at : at + 2])[:60]
        if not word.startswith("-"):
            return PurePath(word).name
    return argv[0] if argv else "?"


def workers(profile: Profile) -> int:
    """The most threads with work to do that lived at the same time."""
    first_pid = profile.processes[0].pid
    main = next((thread for thread in profile.threads if thread.pid == first_pid), None)
    others = [thread for thread in profile.threads if thread is not main and _works(thread)]
    if main is None or not others:
        return 1
    together = _most_at_once(others)
    lived_s = max(t.start_s + t.wall_s for t in others) - min(t.start_s for t in others)
    idle_s = sum(main.idle_s.values()) + main.sleep_io_s
    busy_s = main.cpu_s + sum(main.wait_s.values())
    return together + (idle_s < ALONGSIDE_SHARE * lived_s < busy_s)


def _works(thread: Thread) -> bool:
    idle_s = sum(thread.idle_s.values())
    return thread.wall_s - idle_s > IDLE_SHARE * thread.wall_s


def _most_at_once(threads: Sequence[Thread]) -> int:
    edges = sorted([(t.start_s, 1) for t in threads] + [(t.start_s + t.wall_s, -1) for t in threads])
    count = most = 0
    for _, step in edges:
        count += step
        most = max(most, count)
    return most


def _classes(profile: Profile, lanes: int) -> defaultdict[str, float]:
    """Seconds by class, which sum up to lanes * wall.

    Idle are the lanes that no thread uses: the threads' idling and the time in which they do not exist, less that of
    the threads beyond `lanes`. A main thread that sleeps while others work is idle.
    """
    wall_s = profile.meta["wall_s"]
    first_pid = profile.processes[0].pid
    main = next((thread for thread in profile.threads if thread.pid == first_pid), None)
    seconds: defaultdict[str, float] = defaultdict(float)
    idle_s = (lanes - len(profile.threads)) * wall_s
    for thread in profile.threads:
        own: dict[str, float] = {**thread.wait_s, "runnable": thread.runnable_s, "spin": thread.spin_s}
        own["stolen"] = thread.stolen_s
        own["atomic-stall"] = thread.atomic_stall_s
        own["cpu"] = thread.cpu_s - thread.spin_s - thread.atomic_stall_s
        watches = thread is main and len(profile.threads) > 1
        own["sleep-io"] = 0.0 if watches else thread.sleep_io_s
        idle = sum(thread.idle_s.values()) + (thread.sleep_io_s if watches else 0.0)
        for name, value in own.items():
            seconds[str(name)] += value
        seconds["unaccounted"] += thread.wall_s - math.fsum(own.values()) - idle
        idle_s += idle + wall_s - thread.wall_s
    seconds["idle"] += idle_s
    return seconds
