"""@pytest.mark.limit_contention(lock="5%"): how much of threads x wall a test may wait."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from gilprobe.errors import UsageError
from gilprobe.model import WaitKind, own_frame

KINDS = tuple(kind.value for kind in WaitKind)


def limits_of(arguments: tuple[Any, ...], options: Mapping[str, Any]) -> dict[str, float]:
    """Kind -> share (0-1) of what the marker was given. Raises UsageError."""
    if arguments or not options:
        raise UsageError("limit_contention takes kinds by name", 'Write it as limit_contention(lock="5%", gil="20%").')
    limits = {name.rstrip("_").replace("_", "-"): _share(name, value) for name, value in options.items()}
    unknown = sorted(set(limits) - set(KINDS))
    if unknown:
        raise UsageError(f"there is no kind of wait called {unknown[0]}", f"Kinds are {', '.join(KINDS)}.")
    return limits


def _share(name: str, value: Any) -> float:
    try:
        share = float(value.strip().removesuffix("%")) / 100 if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"limit_contention({name}={value!r}) is no share", 'Give "5%", or 0.05.')
    return share


def exceeded(profile: Any, limits: Mapping[str, float]) -> list[str]:
    """Lines that say what went beyond its limit and who is to blame; none where all is well."""
    whole_s = sum(thread.wall_s for thread in profile.threads)
    lines = []
    for kind, limit in limits.items():
        waits = [wait for wait in profile.waits if wait.kind == kind]
        still_waiting = [thread for thread in profile.threads if thread.open_wait and thread.open_wait.kind == kind]
        spent_s = sum(wait.contended_s for wait in waits) + sum(t.open_wait.waited_s for t in still_waiting)
        share = spent_s / whole_s if whole_s > 0 else 0.0
        if share <= limit:
            continue
        count = f"{len(profile.threads)} thread{'s' if len(profile.threads) != 1 else ''}"
        lines.append(
            f"waiting for {kind}: {_percent(share)} of {count} x wall ({spent_s:.3g} of {whole_s:.3g} s), "
            f"limit {_percent(limit)}"
        )
        lines += [line for wait in waits[:3] for line in _blame(wait)]
        lines += [
            f"  still waiting at the end: {thread.name}, {thread.open_wait.waited_s:.3g} s "
            f"at {_place(thread.open_wait.stack)}"
            for thread in still_waiting[:3]
        ]
    return lines


def _blame(wait: Any) -> list[str]:
    lines = [f"  {wait.contended_s:.3g} s for {wait.name} at {_place(wait.waiter)} ({wait.count} waits)"]
    if wait.releasers:
        lines.append(f"    ended by {wait.releasers[0].thread or '?'} at {_place(wait.releasers[0].stack)}")
    return lines


def _place(stack: Any) -> str:
    frame = own_frame(stack)
    return f"{PurePath(frame.file).name}:{frame.line} in {frame.function}" if frame else "native code"


def _percent(share: float) -> str:
    return f"{share:.2g}%" if not share else f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def summary(profile: Any, folder: str) -> list[str]:
    """The run in a few lines."""
    processes = len({process.pid for process in profile.processes})
    busy_s = sum(thread.cpu_s for thread in profile.threads)
    lines = [
        f"{processes} process{'es' if processes != 1 else ''}, {len(profile.threads)} threads, {busy_s:.3g} s of CPU"
    ]
    for finding in profile.findings[:3]:
        where = f" ({_place(finding.sites)})" if finding.sites else ""
        lines.append(f"{_percent(finding.share):>6}  {finding.title}{where}")
    lines.append(f"whole report: gilprobe report {shlex.quote(folder)} -o report.html")
    return lines
