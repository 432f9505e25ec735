"""The terminal report: the answer in one screen of 80 columns."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterable
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text as Styled

from gilprobe.model import Profile, Proof, Span, WaitKind, Waterfall, own_frame
from gilprobe.render.cuda import cuda_lines
from gilprobe.render.loader_text import part_of_loader, print_loader
from gilprobe.render.proof_words import proof_lines
from gilprobe.render.screen import Screen, screen_lines
from gilprobe.render.watched import held_lines, watched_lines
from gilprobe.render.wording import (
    answer,
    collections_line,
    kernel_counts,
    native_words,
    percent,
    place,
    plain,
    samplers,
    seconds,
    waterfall_rows,
    who_released,
)

MOST_FINDINGS, MOST_THREADS, MOST_WAITS, MOST_KINDS, MOST_SPANS, MOST_HOLDS = 5, 8, 5, 3, 8, 5
LEAST_S = 0.0005
SPAN_COLUMNS = ("wall_s", "cpu_s", "atomic_stall_s", "runnable_s")
SHORT = {"stop-the-world": "stopped"}


class Text:
    suffix = ".txt"

    def render(self, profile: Profile) -> str:
        out = io.StringIO()
        console = Console(file=out, width=80, no_color=True, highlight=False, force_terminal=False)
        _print(profile, console, "", height=None)
        return out.getvalue()


def print_summary(profile: Profile, out: TextIO, *, recording: str = "") -> None:
    """One screen. To a terminal in colour unless NO_COLOR is set, to anything else plain and 80 columns wide."""
    width = None if out.isatty() else 80
    console = Console(file=out, width=width, highlight=False)
    _print(profile, console, recording, height=screen_lines(console, out.isatty()))


def _print(profile: Profile, console: Console, recording: str, *, height: int | None) -> None:
    screen = Screen(console, height)
    screen.add(lambda: _answer(profile, console), rank=0)
    screen.add(lambda: _watched(profile, console), rank=0)
    screen.add(lambda: _findings(profile, console), rank=1, least=2)
    if profile.proof:
        proof = profile.proof
        screen.add(lambda: _proof(proof, console), rank=0)
    if profile.waterfall:
        waterfall = profile.waterfall
        screen.add(lambda: _waterfall(waterfall, console), rank=1, least=3, rows=1)
    if profile.threads:
        screen.add(lambda: _threads(profile, console), rank=2, least=3, rows=1)
        screen.add(lambda: _garbage(profile, console), rank=6)
    screen.add(lambda: _waits(profile, console), rank=4, rows=2)
    if profile.holds:
        screen.add(lambda: _holds(profile, console), rank=4, least=2)
    screen.add(lambda: _gil_holds(profile, console), rank=5, rows=1)
    screen.add(lambda: _spans(profile, console), rank=3, least=2, rows=1)
    screen.add(lambda: print_loader(profile, console), rank=1, least=4)
    screen.add(lambda: _open_waits(profile, console), rank=1, least=4, rows=1)
    screen.add(lambda: _cuda(profile, console), rank=2, least=4)
    screen.add(lambda: _lost(profile, console), rank=1, least=2, rows=1)
    if samplers(profile):
        screen.add(lambda: console.print(Styled(plain(samplers(profile)), style="dim")), rank=4)
    if recording:
        hint = f"whole report: gilprobe report {shlex.quote(recording)} -o report.html"
        screen.add(lambda: console.print(Styled(hint, style="dim")), rank=0)
    screen.show()


def _answer(profile: Profile, console: Console) -> None:
    meta = profile.meta
    python, wall_s, cpu_s = meta.get("python", "?"), meta.get("wall_s", 0.0), meta.get("cpu_s", 0.0)
    console.print()
    console.print(Styled(f"gilprobe  Python {python}, {seconds(wall_s)}, {seconds(cpu_s)} CPU", style="bold"))
    console.print(Styled(answer(profile)))


def _watched(profile: Profile, console: Console) -> None:
    for line, style in watched_lines(profile):
        if style:
            console.print()
        console.print(Styled(line, style=style and f"{style} red"))


def _holds(profile: Profile, console: Console) -> None:
    for number, line in enumerate(held_lines(profile)):
        console.print(Styled(line, style="" if number else "bold"), overflow="ellipsis", no_wrap=True)


def _cuda(profile: Profile, console: Console) -> None:
    for line in cuda_lines(profile.cuda):
        console.print(Styled(line))


def _lost(profile: Profile, console: Console) -> None:
    lost = [item for item in profile.not_observed if any(word in item.what for word in ("record", "stack", "end of"))]
    for item in lost[:4]:
        console.print(Styled(f"not observed: {plain(item.what)} ({plain(item.why)})", style="yellow"))


def _findings(profile: Profile, console: Console) -> None:
    for number, finding in enumerate(profile.findings[:MOST_FINDINGS], 1):
        console.print()
        console.print(
            Styled(
                f"{number}. {percent(finding.share):>5}  {plain(finding.title, 120)} [{finding.evidence}]", style="bold"
            )
        )
        for frame in finding.sites[:3]:
            console.print(Styled(f"     {place(frame)}"), overflow="ellipsis", no_wrap=True)
        if finding.cure:
            console.print(Styled(f"   {plain(finding.cure, 400)}", style="green"))


def _waterfall(waterfall: Waterfall, console: Console) -> None:
    table = _table(("speed-up", False, 36), ("", True, 6))
    for label, figure in waterfall_rows(waterfall):
        table.add_row(plain(label, 60), figure)
    console.print()
    console.print(table)


def _proof(proof: Proof, console: Console) -> None:
    console.print()
    for number, line in enumerate(proof_lines(proof)):
        console.print(Styled(plain(line, 400), style="bold" if number == 0 else ""))


def _table(*columns: tuple[str, bool, int]) -> Table:
    """Columns: heading, right-aligned, least width; 80 columns must hold them all."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, expand=False)
    for name, right, width in columns:
        table.add_column(name, justify="right" if right else "left", overflow="ellipsis", no_wrap=True, min_width=width)
    return table


def _most_waited(parts: Iterable[dict[str, float]]) -> list[str]:
    totals: dict[str, float] = {}
    for waits in parts:
        for kind, value in waits.items():
            totals[str(kind)] = totals.get(str(kind), 0.0) + value
    return [kind for kind in sorted(totals, key=lambda k: -totals[k]) if totals[kind] > LEAST_S][:MOST_KINDS]


def _threads(profile: Profile, console: Console) -> None:
    kinds = _most_waited(thread.wait_s for thread in profile.threads)
    table = _table(
        ("seconds of", False, 12),
        *((name, True, 5) for name in ("wall", "CPU", "spin", "ready")),
        *((SHORT.get(kind, kind), True, 5) for kind in kinds),
        ("idle", True, 5),
        ("sleep", True, 5),
    )
    rows = []
    for thread in sorted(profile.threads, key=lambda t: -(t.cpu_s + sum(t.wait_s.values()))):
        values = [thread.wall_s, thread.cpu_s, thread.spin_s, thread.runnable_s]
        values += [thread.wait_s.get(kind, 0.0) for kind in kinds]
        rows.append((plain(thread.name, 20), [*values, sum(thread.idle_s.values()), thread.sleep_io_s]))
    if len(rows) > MOST_THREADS:
        others = [values for _, values in rows[MOST_THREADS:]]
        rows[MOST_THREADS:] = [(f"{len(others)} more, in all", [sum(column) for column in zip(*others, strict=True)])]
    for name, values in rows:
        table.add_row(name, *(f"{value:.3f}" if value >= LEAST_S else "-" for value in values))
    console.print()
    console.print(table)
    console.print(Styled(kernel_counts(profile.threads), style="dim"))


def _garbage(profile: Profile, console: Console) -> None:
    said = collections_line(profile)
    if said:
        console.print(Styled(said, style="dim"))


def _gil_holds(profile: Profile, console: Console) -> None:
    """Those that kept others waiting. Rich takes what 80 columns lack from every column alike, so none may ask more."""
    table = _table(("GIL held", True, 8), ("by", False, 10), ("in", False, 24), ("at", False, 20))
    shown = [hold for hold in profile.gil_holds if hold.waiters or hold.open][:MOST_HOLDS]
    for hold in shown:
        table.add_row(
            seconds(hold.held_s),
            plain(hold.thread, 14),
            plain(native_words(hold) or "(no sample)", 30),
            plain(place(own_frame(hold.stack)), 25),
        )
    if shown:
        console.print()
        console.print(table)


def _waits(profile: Profile, console: Console) -> None:
    waits = [wait for wait in profile.waits if not wait.idle][:MOST_WAITS]
    if not waits:
        return
    console.print()
    table = _table(
        ("wait", False, 6), ("count", True, 6), ("blocked", True, 7), ("longest", True, 7), ("for", False, 30)
    )
    for wait in waits:
        what = (
            f"{wait.object_type} {wait.name}" if wait.object_type and wait.object_type not in wait.name else wait.name
        )
        row = SHORT.get(wait.kind, wait.kind), str(wait.count), seconds(wait.contended_s), seconds(wait.max_s)
        table.add_row(*row, plain(what, 48))
        unseen = "it spun: who let go is not seen" if 2 * wait.spin_s > wait.contended_s else "ended by ? (not seen)"
        released = who_released(wait)
        table.add_row("", "", "", "", plain(f"ended by {released}" if released else unseen, 48))
    console.print(table)


def _spans(profile: Profile, console: Console) -> None:
    """By name, all threads together."""
    names: dict[str, list[Span]] = {}
    for span in profile.spans:
        if part_of_loader(span.name):
            continue
        names.setdefault(span.name, []).append(span)
    if not names:
        return
    kinds = _most_waited(span.wait_s for span in profile.spans)
    table = _table(
        ("seconds in", False, 14),
        *((name, True, 5) for name in ("count", "wall", "CPU", "stall", "ready")),
        *((SHORT.get(kind, kind), True, 5) for kind in kinds),
        ("idle", True, 5),
    )
    shown = sorted(names.items(), key=lambda item: -sum(span.wall_s for span in item[1]))
    for name, spans in shown[:MOST_SPANS]:
        values = [sum(getattr(span, field) for span in spans) for field in SPAN_COLUMNS]
        values += [sum(span.wait_s.get(kind, 0.0) for span in spans) for kind in kinds]
        values.append(sum(sum(span.idle_s.values()) + span.sleep_io_s for span in spans))
        count = str(sum(span.count for span in spans))
        table.add_row(plain(name, 20), count, *(f"{value:.3f}" if value >= LEAST_S else "-" for value in values))
    console.print()
    console.print(table)
    if len(shown) > MOST_SPANS:
        console.print(Styled(f"and {len(shown) - MOST_SPANS} more spans", style="dim"))


def _open_waits(profile: Profile, console: Console) -> None:
    """Each wait for something another thread has, and what the main threads do; of the rest, workers, the number."""
    workers = 0
    for thread in profile.threads:
        if thread.open_wait and thread.open_wait.waited_s > 0.05 and not thread.ended:
            wait = thread.open_wait
            if wait.kind not in frozenset(WaitKind) and thread.tid != thread.pid:
                workers += 1
                continue
            where = place(wait.stack[0]) if wait.stack else "native code"
            console.print(
                Styled(
                    f"still waiting at the end: {plain(thread.name, 40)}, {seconds(wait.waited_s)} for "
                    f"{plain(wait.name, 60)} ({wait.kind}) at {where}"
                )
            )
    if workers:
        console.print(Styled(f"idle, asleep or in I/O at the end: {workers} more thread{'s' if workers > 1 else ''}"))
