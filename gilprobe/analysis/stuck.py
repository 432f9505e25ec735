"""Threads that will never go on, or had not when the recording ended: the causes that no finished wait tells of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from gilprobe.analysis import cures
from gilprobe.analysis.watched import is_numbered
from gilprobe.model import Evidence, Finding, Frame, OpenWait, Process, Thread, WaitKind, own_frame

LEAST_OPEN_S = 0.05
DEADLOCK, OPEN = "deadlock", "open-wait"
CONTENTION = frozenset(WaitKind)


def deadlock_findings(deadlocks: Sequence[dict[str, Any]], threads: Sequence[Thread]) -> list[Finding]:
    """share: of the wall time of the threads stuck, what they stood still in the waits that never ended."""
    found = []
    for deadlock in deadlocks:
        told = deadlock["threads"]
        named = [thread for thread in threads if (thread.pid, thread.name) in _names(deadlock)]
        stuck = [thread for thread, _ in _open(named)] or named
        wall_s = sum(thread.wall_s for thread in stuck)
        still_s = sum(wait.waited_s for _, wait in _open(stuck))
        still = f"for {still_s:.3g} s of their {wall_s:.3g} s" if still_s else "until something ended it"
        names = ", ".join(thread["name"] for thread in told[:4]) + (" ..." if len(told) > 4 else "")
        found.append(
            Finding(
                title=f"Deadlock: {len(told)} threads wait for each other"
                if len(told) > 1
                else "Deadlock: a thread waits for what nobody will give it",
                share=min(1.0, still_s / wall_s) if wall_s > 0 else 0.0,
                evidence=Evidence(deadlock["evidence"]),
                sites=_sites(told),
                cure=cures.of_deadlock(
                    [str(thread["waits_for"]["kind"]) for thread in told],
                    any(is_numbered(str(thread["waits_for"].get("name", ""))) for thread in told),
                ),
                kind=DEADLOCK,
                detail=f"{names} stood still {still}",
            )
        )
    return found


def open_findings(
    processes: Sequence[Process],
    threads: Sequence[Thread],
    deadlocks: Sequence[dict[str, Any]],
    wanted_s: float,
    watched: bool,
) -> list[Finding]:
    """Contention that had not ended when the recording did, and that no deadlock explains. share: of wanted_s.

    A process that was killed left no time of its end: how long its threads stood still is not known, only that they
    did, and somebody always waits for the GIL.
    """
    exited = {process.pid for process in processes if process.end == "exit"}
    killed = {process.pid for process in processes if process.end == "none"}
    explained = {name for deadlock in deadlocks for name in _names(deadlock)}
    groups: dict[tuple[str, str, bool], list[tuple[Thread, OpenWait]]] = defaultdict(list)
    for thread, wait in _open(threads):
        if wait.kind not in CONTENTION or (thread.pid, thread.name) in explained:
            continue
        if wait.kind == WaitKind.STOP_THE_WORLD and thread.pid in exited:
            continue  # without the GIL, daemon threads are left so when the interpreter ends
        unknown = thread.pid in killed and wait.kind != WaitKind.GIL
        if wait.waited_s > LEAST_OPEN_S or unknown:
            groups[wait.kind, wait.name, unknown].append((thread, wait))
    return [_unended(*key, group, wanted_s, watched) for key, group in groups.items()]


def _unended(
    kind: str, name: str, unknown: bool, group: Sequence[tuple[Thread, OpenWait]], wanted_s: float, watched: bool
) -> Finding:
    waited_s = [wait.waited_s for _, wait in group]
    sites = dict.fromkeys(frame for _, wait in group if (frame := own_frame(wait.stack)))
    names = ", ".join(thread.name for thread, _ in group[:4]) + (" ..." if len(group) > 4 else "")
    long = "for how long is not known, as it was killed" if unknown else f"the longest for {max(waited_s):.3g} s"
    return Finding(
        title=f"Still waiting when the recording ended: for {'the GIL' if kind == WaitKind.GIL else name or kind}",
        share=min(1.0, sum(waited_s) / wanted_s) if wanted_s > 0 else 0.0,
        evidence=Evidence.MEASURED,
        sites=tuple(sites)[:6],
        cure=cures.of_open_wait(watched),
        kind=OPEN,
        detail=f"{names}; {long}",
    )


def _open(threads: Sequence[Thread]) -> Iterator[tuple[Thread, OpenWait]]:
    for thread in threads:
        if thread.open_wait and not thread.ended:
            yield thread, thread.open_wait


def _names(deadlock: dict[str, Any]) -> set[tuple[int, str]]:
    return {(deadlock["pid"], thread["name"]) for thread in deadlock["threads"]}


def _sites(told: Sequence[dict[str, Any]]) -> tuple[Frame, ...]:
    """Where each thread waits and where it took what it holds, each line once."""
    stacks = [stack for thread in told for stack in (thread["stack"], *(held["taken"] for held in thread["holds"]))]
    frames = (own_frame([Frame(**frame) for frame in stack]) for stack in stacks if stack)
    return tuple(dict.fromkeys(frame for frame in frames if frame))[:6]
