"""Ranked causes, each with its share of the threads' time, its evidence, its lines and a cure that fits the build."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from gilprobe.model import Accounting, Evidence, Finding, Frame, HotObject, Process, Thread, Wait, WaitKind, own_frame

LEAST_SHARE = 0.01


def findings(
    processes: Sequence[Process],
    threads: Sequence[Thread],
    waits: Sequence[Wait],
    hot_objects: Sequence[HotObject],
    accounting: Accounting,
) -> tuple[Finding, ...]:
    wanted_s = sum(t.wanted_s for t in threads)
    if wanted_s <= 0:
        return (_nothing(0.0),)
    free_threaded = any(process.free_threaded for process in processes)
    found = [*_gil(waits, wanted_s, free_threaded), *_waits(waits, wanted_s, free_threaded)]
    found += [_hot(hot, threads, wanted_s) for hot in hot_objects if hot.share >= LEAST_SHARE]
    found += _too_few_cores(threads, wanted_s)
    found.sort(key=lambda finding: -finding.share)
    contention = sum(loss.share for loss in accounting.losses if loss.name not in ("runnable", "unaccounted"))
    return tuple(found) if found else (_nothing(contention),)


def _sites(waits: Sequence[Wait]) -> tuple[Frame, ...]:
    """The lines that wait and the lines that end the waits, by falling time, each once."""
    seconds: dict[Frame, float] = defaultdict(float)
    for wait in waits:
        frame = own_frame(wait.waiter)
        if frame:
            seconds[frame] += wait.contended_s
        for releaser in wait.releasers:
            frame = own_frame(releaser.stack)
            if frame:
                seconds[frame] += releaser.total_s
    return tuple(sorted(seconds, key=lambda frame: -seconds[frame])[:6])


def _gil(waits: Sequence[Wait], wanted_s: float, free_threaded: bool) -> list[Finding]:
    gil = [wait for wait in waits if wait.kind == WaitKind.GIL]
    share = sum(wait.contended_s for wait in gil) / wanted_s
    if share < LEAST_SHARE:
        return []
    if free_threaded:
        cure = "The GIL is on in this free-threaded build: gilprobe doctor MODULE names the import that turned it on."
    else:
        cure = (
            "Python code of one process runs on one core here: move the work into code that releases the GIL, into "
            "processes, or to a free-threaded build. The lines below held it while others waited."
        )
    return [Finding("Threads wait for the GIL", share, Evidence.MEASURED, _sites(gil), cure, kind=WaitKind.GIL)]


def _waits(waits: Sequence[Wait], wanted_s: float, free_threaded: bool) -> list[Finding]:
    groups: dict[tuple[str, str, str], list[Wait]] = defaultdict(list)
    for wait in waits:
        if not wait.idle and wait.kind != WaitKind.GIL:
            groups[wait.kind, wait.object_type, wait.name].append(wait)
    found = []
    for (kind, object_type, name), group in groups.items():
        share = sum(wait.contended_s for wait in group) / wanted_s
        if share >= LEAST_SHARE:
            count = sum(wait.count for wait in group)
            longest = max(wait.max_s for wait in group)
            found.append(
                Finding(
                    title=_title(kind, object_type, name),
                    share=share,
                    evidence=Evidence.MEASURED,
                    sites=_sites(group),
                    cure=_cure(kind, object_type),
                    kind=kind,
                    detail=f"{count} waits, the longest {longest * 1e3:.3g} ms",
                )
            )
    return found


def _title(kind: str, object_type: str, name: str) -> str:
    match kind:
        case WaitKind.OBJECT:
            return f"Threads wait for one {object_type or 'object'}: {name}"
        case WaitKind.STOP_THE_WORLD:
            return "Threads stand still while the world is stopped"
        case WaitKind.IMPORT:
            return f"Threads wait for an import: {name}"
        case WaitKind.NATIVE:
            return f"Threads wait for {name or 'a native mutex'}"
        case _:
            return f"Threads wait for a lock: {name}"


def _cure(kind: str, object_type: str) -> str:
    match kind:
        case WaitKind.OBJECT if object_type == "cell":
            return "A variable of an enclosing function is read by all threads: bind it to a local before the loop."
        case WaitKind.OBJECT:
            return (
                f"Each operation locks the {object_type or 'object'} itself: give each thread its own and merge at the "
                "end, or pass work in batches."
            )
        case WaitKind.STOP_THE_WORLD:
            return (
                "Garbage collection, setting a class attribute and starting the first thread stop every thread: "
                "collect less often (gc.freeze after start-up, a higher gc.set_threshold), set class attributes early."
            )
        case WaitKind.IMPORT:
            return "Import the module before the threads start."
        case WaitKind.NATIVE:
            return "The library serialises its callers: give each thread an instance of its own where the library can."
        case _:
            return (
                "Hold the lock for less: move work out of the with block, copy under the lock and compute outside, "
                "or split the lock by key."
            )


def _hot(hot: HotObject, threads: Sequence[Thread], wanted_s: float) -> Finding:
    cpu_s = sum(thread.cpu_s for thread in threads)
    return Finding(
        title=f"Threads fight over one {hot.object_type}: {hot.name}",
        share=hot.share * cpu_s / wanted_s,
        evidence=Evidence.ESTIMATED,
        sites=hot.site[:6],
        cure=(
            "Every access changes its reference count, which all threads share: give each thread a copy, or bind what "
            "it holds to a local before the loop."
        ),
        kind="atomic-stall",
        detail=f"{hot.share:.0%} of CPU samples ({hot.interval[0]:.0%} to {hot.interval[1]:.0%})",
    )


def _too_few_cores(threads: Sequence[Thread], wanted_s: float) -> list[Finding]:
    share = sum(thread.runnable_s for thread in threads) / wanted_s
    if share < 0.05:
        return []
    return [
        Finding(
            "Threads are ready to run, but the cores are busy",
            share,
            Evidence.MEASURED,
            (),
            "More threads want to run than there are free cores: use fewer, or look for what else runs here.",
            kind="runnable",
        )
    ]


def _nothing(contention: float) -> Finding:
    return Finding(
        "No contention found",
        contention,
        Evidence.MEASURED,
        (),
        f"Waits for other threads took {contention:.2%} of the time threads wanted to run; causes below "
        f"{LEAST_SHARE:.0%} each are not listed.",
        kind="none",
    )
