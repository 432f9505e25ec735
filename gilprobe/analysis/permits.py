"""Waits for a semaphore's permit. They are idle by class, since a semaphore may as well announce work; but where the
threads that wait are those that give the permits back, it is a limit, and what they wait for is each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from gilprobe.analysis import cures
from gilprobe.analysis.advice import LEAST_SHARE
from gilprobe.analysis.contention import PRIMITIVES, ClassifiedWait
from gilprobe.analysis.frames import Site, expression_at, subject_of
from gilprobe.model import Evidence, Finding, Frame, Thread

MOST_SITES = 6


def permit_findings(waits: Sequence[ClassifiedWait], threads: Sequence[Thread]) -> list[Finding]:
    """A share is of the time in which threads had work or waited for a permit."""
    wanted_s = sum(thread.wanted_s for thread in threads)
    by_name: dict[str, list[ClassifiedWait]] = defaultdict(list)
    for wait in waits:
        if wait.classified.idle and _for_permit(wait.sites):
            by_name[wait.name].append(wait)
    found = []
    for name, group in by_name.items():
        waited_s = sum(wait.blocked_s for wait in group)
        given_back = [wait for wait in group if _given_back(wait)]
        share = waited_s / (wanted_s + waited_s) if waited_s else 0.0
        if share < LEAST_SHARE or sum(wait.blocked_s for wait in given_back) < waited_s / 2:
            continue
        count, longest_s = sum(wait.count for wait in group), max(wait.max_s for wait in group)
        found.append(
            Finding(
                title=f"Threads wait for each other's permit of a semaphore: {name}",
                share=share,
                evidence=Evidence.MEASURED,
                sites=_lines(given_back),
                cure=cures.of_permits(),
                kind="permit",
                detail=f"{count} waits, the longest {longest_s * 1e3:.3g} ms; they count as idle in the tables",
            )
        )
    return found


def _for_permit(sites: Sequence[Site]) -> bool:
    return any(site.file.endswith("/threading.py") and site.function == "Semaphore.acquire" for site in sites)


def _own(sites: Sequence[Site]) -> list[Site]:
    """Innermost first."""
    return [site for site in sites if not site.file.endswith(PRIMITIVES)]


def _given_back(wait: ClassifiedWait) -> bool:
    """By a thread that had taken it: what took and what gave meet in one function, and name one variable.

    Threads may never wait for what they take, so that who waits says nothing.
    """
    taken, given = _own(wait.sites), _own(wait.releaser_sites)
    if not taken or not given:
        return False
    names = _expression(taken[0]), _expression(given[0])
    if not _same_function(taken[0], given[0]):  # `self._free` in one method may be `pool._free` in another
        names = names[0].rpartition(".")[2], names[1].rpartition(".")[2]
    return (names[0] == names[1] or not all(names)) and _meet(taken, given)


def _expression(site: Site) -> str:
    """`pool._free` of `with pool._free` and of `pool._free.release()`; empty where the source does not tell."""
    return subject_of(expression_at(site.file, site.position))


def _same_function(one: Site, other: Site) -> bool:
    """All lambdas of a function have one name."""
    same = (one.file, one.function) == (other.file, other.function)
    return same and (one.frame.line == other.frame.line or not one.function.endswith("<lambda>"))


def _meet(taken: Sequence[Site], given: Sequence[Site]) -> bool:
    """From the outermost function on: the last that both are in has a line for each, or is where both end (`with`).
    One line that leads to either is no more than where all threads come from.
    """
    met = False
    for ours, theirs in zip(reversed(taken), reversed(given), strict=False):
        if not _same_function(ours, theirs):
            return False
        if ours.frame.line != theirs.frame.line:
            return True
        met = True
    return met and len(taken) == len(given)


def _lines(waits: Sequence[ClassifiedWait]) -> tuple[Frame, ...]:
    """Those that wait and those that give back, by falling time, each once."""
    seconds: dict[Frame, float] = defaultdict(float)
    for wait in waits:
        for sites in (wait.sites, wait.releaser_sites):
            seconds[_own(sites)[0].frame] += wait.blocked_s
    return tuple(sorted(seconds, key=lambda frame: -seconds[frame])[:MOST_SITES])
