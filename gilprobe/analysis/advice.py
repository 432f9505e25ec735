"""Ranked causes, each with its share of the threads' time, its evidence, its lines and a cure that fits the build."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from gilprobe.analysis import cures
from gilprobe.analysis.stuck import deadlock_findings, open_findings
from gilprobe.model import Accounting, Evidence, Finding, Frame, HotObject, Process, Thread, Wait, WaitKind, own_frame

LEAST_SHARE = 0.01
LEAST_WITHOUT_CORE = 0.05
NOTHING_RECORDED = Finding(
    "No thread was recorded, so nothing can be said of its waits",
    0.0,
    Evidence.UNAVAILABLE,
    (),
    "What was not observed says why.",
    kind="none",
)


def findings(
    processes: Sequence[Process],
    threads: Sequence[Thread],
    waits: Sequence[Wait],
    hot_objects: Sequence[HotObject],
    accounting: Accounting,
    *,
    deadlocks: Sequence[dict[str, Any]] = (),
    samples: int = 0,
    watched: bool = False,
    others: Sequence[Finding] = (),
) -> tuple[Finding, ...]:
    """By falling share, deadlocks first. watched: the watchdog looked for deadlocks. others: causes that are neither
    contention that a hook saw nor a hot object.
    """
    wanted_s = sum(t.wanted_s for t in threads)
    stuck = deadlock_findings(deadlocks, threads)
    if not threads:
        return (*stuck, NOTHING_RECORDED)
    if wanted_s <= 0:
        return tuple(stuck) or (_nothing(accounting, False, samples),)
    free_threaded = any(process.free_threaded for process in processes)
    python = processes[0].python
    found = [*_gil(waits, wanted_s, free_threaded), *_waits(waits, wanted_s)]
    found += [_hot(hot, threads, wanted_s, python) for hot in hot_objects if hot.share >= LEAST_SHARE]
    found += others
    found += open_findings(processes, threads, deadlocks, wanted_s, watched)
    none = [] if found or stuck else [_nothing(accounting, free_threaded, samples)]
    found += _too_few_cores(threads, wanted_s, accounting)
    found += _stolen(threads, wanted_s)
    found.sort(key=lambda finding: -finding.share)
    return (*stuck, *found, *none)


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
    cure = cures.of_gil(free_threaded)
    return [Finding("Threads wait for the GIL", share, Evidence.MEASURED, _sites(gil), cure, kind=WaitKind.GIL)]


def _waits(waits: Sequence[Wait], wanted_s: float) -> list[Finding]:
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
                    cure=cures.of_wait(group),
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


def _hot(hot: HotObject, threads: Sequence[Thread], wanted_s: float, python: str) -> Finding:
    cpu_s = sum(thread.cpu_s for thread in threads)
    return Finding(
        title=f"Threads fight over one {hot.object_type}: {hot.name}",
        share=hot.share * cpu_s / wanted_s,
        evidence=Evidence.ESTIMATED,
        sites=hot.site[:6],
        cure=cures.of_hot_object(hot, python),
        kind="atomic-stall",
        detail=f"{hot.share:.0%} of CPU samples ({hot.interval[0]:.0%} to {hot.interval[1]:.0%})",
    )


def _too_few_cores(threads: Sequence[Thread], wanted_s: float, accounting: Accounting) -> list[Finding]:
    share = sum(thread.runnable_s for thread in threads) / wanted_s
    if share < LEAST_WITHOUT_CORE:
        return []
    got = sum(thread.cpu_s for thread in threads) / wanted_s * accounting.ideal
    return [
        Finding(
            "Threads are ready to run, but the cores are busy",
            share,
            Evidence.MEASURED,
            (),
            cures.of_busy_cores(got),
            kind="runnable",
            detail=f"all threads together got {got:.1f} cores",
        )
    ]


def _stolen(threads: Sequence[Thread], wanted_s: float) -> list[Finding]:
    share = sum(thread.stolen_s for thread in threads) / wanted_s
    if share < LEAST_WITHOUT_CORE:
        return []
    title = "The machine's host took cores away from running threads"
    return [Finding(title, share, Evidence.ESTIMATED, (), cures.of_stolen(), kind="stolen")]


def _nothing(accounting: Accounting, free_threaded: bool, samples: int) -> Finding:
    """With how much could have hidden: what was seen below the limit, what no class explains, what sampling missed."""
    seen = sum(loss.share for loss in accounting.losses if loss.name not in ("runnable", "stolen", "unaccounted"))
    unaccounted = sum(loss.share for loss in accounting.losses if loss.name == "unaccounted")
    hidden = [f"causes below {LEAST_SHARE:.0%} each, {seen:.2%} together", f"{unaccounted:.2%} unaccounted for"]
    if free_threaded:
        hidden.append(f"objects below {least_hot_share(samples):.1%} of CPU" if samples else "hot objects: no samples")
    return Finding(
        "No contention found",
        seen,
        Evidence.MEASURED,
        (),
        f"What could have hidden, of the time threads wanted to run: {'; '.join(hidden)}.",
        kind="none",
    )


def least_hot_share(samples: int) -> float:
    """The share of CPU (0-1) above which a hot object shows with 95 % in so many samples: its line needs four of them,
    which a Poisson count of mean 7.75 has that often, and is not listed below LEAST_SHARE."""
    return min(1.0, max(LEAST_SHARE, 7.75 / samples))
