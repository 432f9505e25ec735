"""Deadlocks, stalls and contradicting lock orders in a few lines each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gilprobe.model import Frame, Profile, own_frame
from gilprobe.render.wording import place, plain, seconds

MOST_EVENTS, MOST_THREADS, MOST_HOLDS = 5, 8, 3
LONG_HOLD_S = 0.001


def watched_lines(profile: Profile) -> Iterator[tuple[str, str]]:
    """(line, "bold" for a heading, else "")."""
    for deadlock in profile.deadlocks[:MOST_EVENTS]:
        threads = deadlock["threads"]
        count = f"{len(threads)} threads wait for each other" if len(threads) > 1 else "one thread waits for ever"
        yield f"deadlock after {seconds(deadlock['after_s'])}: {count} [{deadlock['evidence']}]", "bold"
        yield from _threads(threads)
    for stall in profile.stalls[:MOST_EVENTS]:
        heading = f"stall at {seconds(stall['after_s'])}: nothing moved for {seconds(stall['waited_s'])}"
        yield heading, "bold"
        yield from _threads(stall["threads"])
        gil = stall.get("gil")
        for thread in stall.get("unpaused", ()):
            inside = f", in {plain(thread['native_function'], 60)}" if thread["native_function"] else ""
            yield f"  {plain(thread['name'], 40)} does not pause{inside}, at {_place(thread['stack'])}", ""
        if gil:
            inside = f", in {plain(gil['native_function'], 60)}" if gil["native_function"] else ""
            yield f"  the GIL: {plain(gil['holder'], 40)} has had it for {seconds(gil['held_s'])}{inside}", ""
    for order in profile.lock_order[:MOST_EVENTS]:
        yield f"lock order: {len(order['ways'])} threads that meet here would deadlock", "bold"
        for way in order["ways"]:
            takes, holds = way["takes"], way["holds"]
            yield f"  {plain(way['thread'], 40)} takes {plain(takes['name'], 60)}, at {_place(takes['taken'])}", ""
            yield f"    while it holds {plain(holds['name'], 60)}, taken at {_place(holds['taken'])}", ""
    hidden = sum(max(0, len(found) - MOST_EVENTS) for found in (profile.deadlocks, profile.stalls, profile.lock_order))
    if hidden:
        yield f"and {hidden} more that the watchdog told, in the JSON report", ""


def held_lines(profile: Profile) -> Iterator[str]:
    """The locks that were held longest, where no hold was long nothing."""
    long = [hold for hold in profile.holds if hold.max_s >= LONG_HOLD_S][:MOST_HOLDS]
    if long:
        yield "locks held longest"
    for hold in long:
        longest = f"{'at least ' if hold.at_least else ''}{seconds(hold.max_s)}"
        still = ", held at the end" if hold.open else ""
        times = f"{hold.count} times" if hold.count != 1 else "once"
        yield f"  {plain(hold.name, 60)}: {longest}; {times}, {seconds(hold.total_s)} in all [{hold.evidence}]{still}"
        ended = f", released at {place(own_frame(hold.released))}" if hold.released else ""
        yield f"    taken at {place(own_frame(hold.taken))}{ended}"


def _threads(threads: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for thread in threads[:MOST_THREADS]:
        wanted = thread["waits_for"]
        by = f", {plain(wanted['held_by'], 40)} has it" if wanted.get("held_by") else ""
        what = "runs" if wanted["kind"] == "nothing" else f"waits for {plain(wanted['name'], 70)}{by}"
        yield f"  {plain(thread['name'], 40)} {what}, at {_place(thread['stack'])}", ""
        for held in thread["holds"]:
            taken = f", taken at {_place(held['taken'])}" if held["taken"] else ""
            yield f"    holds {plain(held['name'], 70)}{taken}", ""
    if len(threads) > MOST_THREADS:
        yield f"  and {len(threads) - MOST_THREADS} more threads", ""


def _place(stack: list[dict[str, Any]]) -> str:
    return place(own_frame([Frame(**frame) for frame in stack])) if stack else "native code"
