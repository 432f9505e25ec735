"""The words and numbers every report shares."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import PurePath

from gilprobe.model import Frame, GilHold, Profile, Thread, Wait, Waterfall, own_frame

LEAST_LOSS = 0.05  # of the ideal
MOST_NAMED = 3


def seconds(value: float) -> str:
    if value == 0:
        return "0"
    if value < 1e-3:
        return f"{value * 1e6:.0f} us"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} s"


def percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def plain(text: str, most: int = 200) -> str:
    """Printable: control characters, line ends and direction marks, which could rewrite a line, become U+FFFD."""
    if len(text) <= most and text.isprintable():
        return text
    shown = "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c
        for c in text[: most + 1]
    )
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def place(frame: Frame | None) -> str:
    """loader.py:88 in Loader.run"""
    if frame is None:
        return "?"
    return plain(f"{PurePath(frame.file).name}:{frame.line} in {frame.function}", 120)


def who_released(wait: Wait) -> str:
    if not wait.releasers:
        return ""
    first = wait.releasers[0]
    frame = own_frame(first.stack)
    where = place(frame) if frame else "its end" if wait.kind == "join" else "native code"
    return f"{plain(first.thread, 40)} at {where}" if first.thread else where


def kernel_counts(threads: Sequence[Thread]) -> str:
    """What the two accountings leave open, and the kernel's counts beside them, of all threads."""
    faults = sum(thread.minor_faults + thread.major_faults for thread in threads)
    major = sum(thread.major_faults for thread in threads)
    waits = sum(thread.voluntary_switches for thread in threads)
    forced = sum(thread.involuntary_switches for thread in threads)
    wall_s = sum(thread.wall_s for thread in threads)
    unaccounted = sum(thread.unaccounted_s for thread in threads) / wall_s if wall_s > 0 else 0.0
    stolen = sum(thread.stolen_s for thread in threads) / wall_s if wall_s > 0 else 0.0
    taken = f"stolen by the host {percent(stolen)}; " if stolen >= LEAST_STOLEN else ""
    return (
        f"unaccounted {percent(unaccounted)}; {taken}page faults {faults} ({major} from disk); context switches "
        f"{waits} to wait, {forced} forced"
    )


STEPS = {
    "gil": "waiting for the GIL",
    "lock": "waiting for locks",
    "object": "waiting for objects",
    "stop-the-world": "the world stopped",
    "import": "waiting for imports",
    "native": "waiting for native mutexes",
    "spin": "spinning",
    "atomic-stall": "fighting over cache lines",
    "runnable": "ready, but no core was free",
    "stolen": "stolen by the machine's host",
    "cpu": "more CPU for the same work",
    "sleep-io": "more sleep and I/O",
    "idle": "workers without work (serial parts)",
    "unaccounted": "unaccounted",
}
LEAST_STEP = 0.005
LEAST_STOLEN = 0.001  # below it, saying so is not worth a line


def waterfall_rows(waterfall: Waterfall) -> list[tuple[str, str]]:
    """What the speed-up was lost to: label and figure, from the ideal down to the actual."""
    shown = [step for step in waterfall.steps if abs(step.speedup) >= LEAST_STEP or step.name == "unaccounted"]
    small = sum(step.speedup for step in waterfall.steps if step not in shown)
    rows = [(f"ideal: {waterfall.ideal:.0f} workers", f"{waterfall.ideal:.2f}")]
    for step in shown:
        estimated = " (estimated)" if step.evidence == "estimated" else ""
        rows.append((STEPS.get(step.name, step.name) + estimated, f"{-step.speedup:+.2f}"))
    if abs(small) >= LEAST_STEP:
        rows.append((f"parts below {LEAST_STEP} each", f"{-small:+.2f}"))
    rows.append((f"actual: {seconds(waterfall.baseline_wall_s)} with one worker", f"{waterfall.actual:.2f}"))
    return rows


def gc_share(profile: Profile) -> float:
    """Of all CPU (0-1), estimated."""
    return sum(thread.gc_s for thread in profile.threads) / max(1e-12, sum(thread.cpu_s for thread in profile.threads))


def collections_line(profile: Profile) -> str:
    """Empty where no sample fell in a collection."""
    inside = sum(thread.gc_samples for thread in profile.threads)
    meta = profile.meta
    return (
        f"garbage collection: {percent(gc_share(profile))} of the CPU ({inside} of {meta.get('samples', 0)} samples at "
        f"{meta.get('rate_hz', 0)} Hz)"
        if inside
        else ""
    )


def native_words(hold: GilHold) -> str:
    """`spin_for in libplanted.so`; empty where no sample fell in the hold."""
    names = [f"{part.name} in {part.library}" if part.library else part.name for part in hold.native]
    return plain(", ".join(names), 120)


def samplers(profile: Profile) -> str:
    """Which sampler made which figures; empty if none ran."""
    meta = profile.meta
    said = []
    if meta.get("rate_hz") and meta.get("sampler", "off") != "off":
        said.append(f"CPU and registers by the {meta['sampler']} at {meta['rate_hz']} Hz, {meta['samples']} samples")
    if meta.get("stacks_by"):
        said.append(f"Python stacks by {meta['stacks_by']}, which took {seconds(meta['stacks_cpu_s'])} of CPU itself")
    told = "sampled: " + "; ".join(said) if said else ""
    if "counted" in meta:
        rate = meta["counted"]["total"] / meta["counted"]["seconds"]
        told += f"{'; ' if told else ''}counted by the processor: {rate:.3g} {meta['counted']['event']} a second of CPU"
    return told


def answer(profile: Profile) -> str:
    """Two sentences: how parallel it ran, and what cost most."""
    if profile.waterfall:
        return _against_one(profile, profile.waterfall)
    accounting = profile.accounting
    workers = sum(1 for thread in profile.threads if thread.cpu_s > 0.02 * max(profile.meta.get("wall_s", 0), 1e-9))
    if not profile.threads:
        return "No thread was recorded: nothing can be said of its waits."
    count = len(profile.threads)
    who = "One thread" if count == 1 else f"{count} threads ({workers} of them busy)"
    first = (
        f"{who} had work for {accounting.ideal:.1f} cores on average and did useful work on {accounting.actual:.1f}."
    )
    if profile.deadlocks:
        return f"{_deadlock(profile)} {first}"
    top = profile.findings[0] if profile.findings else None
    if top is None or top.kind == "none":
        return f"{first} No contention was found."
    if top.kind == "shared codec":
        return f"{first} {plain(top.title)}."
    where = f" ({place(top.sites[0])})" if top.sites else ""
    cause = plain(top.title)
    cause = f"{cause[:1].lower()}{cause[1:]}{where}"
    time = "in which they had work or waited for it" if top.kind == "permit" else "they had work"
    return f"{first} What cost most, {percent(top.share)} of the time {time}: {cause}."


def _deadlock(profile: Profile) -> str:
    """2 of 5 threads wait for each other for ever, in a deadlock: teller 1 (bank.py:8 in move) and teller 2 (...)."""
    parties = profile.deadlocks[0].get("threads", ())
    names = [plain(str(party.get("name", "")), 40) for party in parties[:MOST_NAMED]]
    stacks = [party.get("stack") or (None,) for party in parties[:MOST_NAMED]]
    where = [
        f"{name} at {PurePath(stack[0].file).name}:{stack[0].line}" if isinstance(stack[0], Frame) else name
        for name, stack in zip(names, stacks, strict=True)
    ]
    more = " and others" if len(parties) > MOST_NAMED else ""
    told = f": {plain(' and '.join(where), 200)}{more}" if where else ""
    return f"{len(parties)} of {len(profile.threads)} threads wait for each other for ever, in a deadlock{told}."


def _against_one(profile: Profile, waterfall: Waterfall) -> str:
    """8 threads ran 3.1x as fast as one. 38% of what is lost: Threads wait for a lock: ... (loader.py:88 in run)."""
    count = round(waterfall.ideal)
    first = f"{count} thread{'s' if count != 1 else ''} ran {waterfall.actual:.1f}x as fast as one."
    lost = waterfall.ideal - waterfall.actual
    most = max(waterfall.steps, key=lambda step: step.speedup, default=None)
    if most is None or most.speedup <= 0 or lost < LEAST_LOSS * waterfall.ideal:
        return f"{first} Hardly anything is lost."
    cause = next((finding for finding in profile.findings if finding.kind == most.name), None)
    where = f" ({place(cause.sites[0])})" if cause and cause.sites else ""
    title = plain(cause.title) if cause else STEPS.get(most.name, most.name)
    return f"{first} {percent(min(1.0, most.speedup / lost))} of what is lost: {title}{where}."
