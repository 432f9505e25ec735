"""Deadlocks, stalls and contradicting lock orders in a few lines each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gilprobe.model import Frame, Profile, own_frame
from gilprobe.render.wording import place, plain, seconds

MOST_EVENTS, MOST_THREADS = 5, 8


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
