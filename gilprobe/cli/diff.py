"""gilprobe diff: what changed between two recordings, or two sets of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gilprobe.errors import UsageError
from gilprobe.render.wording import percent, place, plain

if TYPE_CHECKING:
    from gilprobe.analysis.compare import Change

SIDES = "\0"  # stands for -- among the arguments, where click would drop it; no argument can hold it
LEAST_SHARE, MOST_ROWS = 0.005, 10
NAME_WIDTH = 34


class DiffCommand(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [SIDES if arg == "--" else arg for arg in args])


@click.command(cls=DiffCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", nargs=-1, metavar="BEFORE... [--] AFTER...")
@click.option("--force", is_flag=True, help="Compare recordings made differently all the same, and say what differs.")
def diff(words: tuple[str, ...], force: bool) -> None:
    """Say what changed between recordings, and how sure that is.

    Two recordings, or several of each side with -- between them: gilprobe diff before-* -- after-*. Each change comes
    with a 95 % interval as soon as there are two of each; five are better. Shares are of all threads' time less what
    they idled or slept. Recordings of another script, interpreter, sampler or with other options are refused.
    """
    before, after = _sides(words)
    from gilprobe.analysis import load
    from gilprobe.analysis.compare import compare, made_differently

    olds, news = [load(path) for path in before], [load(path) for path in after]
    differences = [plain(difference) for difference in made_differently([*olds, *news])]
    if differences and not force:
        raise UsageError(
            f"the recordings cannot be compared: {'; '.join(differences)}", "Record both alike, or add --force."
        )
    for difference in differences:
        print(f"Made differently: {difference}")
    _print(compare(olds, news), len(olds), len(news))


def _sides(words: Sequence[str]) -> tuple[list[Path], list[Path]]:
    if SIDES in words:
        at = words.index(SIDES)
        before, after = words[:at], [word for word in words[at + 1 :] if word != SIDES]
    elif len(words) == 2:
        before, after = words[:1], list(words[1:])
    else:
        raise UsageError(
            f"{len(words)} recordings do not tell the sides" if words else "no recordings were given",
            "Give two, or put -- between those before and those after.",
        )
    if not before or not after:
        raise UsageError("a side has no recording", "Put at least one before and one after the --.")
    paths = [Path(word) for word in (*before, *after)]
    resolved = [path.resolve() for path in paths]
    twice = next((path for path, real in zip(paths, resolved, strict=True) if resolved.count(real) > 1), None)
    if twice:
        raise UsageError(f"{twice} was given twice", "Record again: a copy tells nothing of chance.")
    return paths[: len(before)], paths[len(before) :]


def _print(changes: Sequence[Change], before: int, after: int) -> None:
    sure = min(before, after) > 1
    print(_answer(changes[0], sure))
    if sure:
        print(f"{before} recordings before, {after} after. 95 %: where the change lies; * marks one that is not 0.")
        print("Each row stands for itself: of twenty rows, chance alone marks one.")
    else:
        print("With one recording on a side no interval can be had: a change of a few points may be chance.")
    print(f"\n  {'':{NAME_WIDTH}} {'before':>8} {'after':>8} {'change':>8}{'  95 % of the change' if sure else ''}")
    groups = {"whole": "", "class": "share of the time threads wanted to run", "wait": "waits for", "object": "hot"}
    for group, title in groups.items():
        rows = [change for change in changes if change.quantity.group == group and _worth_a_row(change)]
        if rows and title:
            print(title)
        for change in rows[:MOST_ROWS]:
            print(_row(change))
            if change.where and group == "wait":
                print(f"    {place(change.where)}")
        if len(rows) > MOST_ROWS:
            print(f"  and {len(rows) - MOST_ROWS} more that changed less")


def _answer(wall: Change, sure: bool) -> str:
    if wall.before <= 0:
        return "The recordings hold no time."
    ratio = wall.change / wall.before
    word = "less" if ratio < 0 else "more"
    told = f"Wall time {wall.before:.3g} s -> {wall.after:.3g} s: {percent(abs(ratio))} {word}"
    if not sure:
        return f"{told}."
    if not wall.told_apart:
        return f"{told}, which chance can make as well."
    assert wall.low is not None and wall.high is not None
    return f"{told} (95 %: {100 * wall.low / wall.before:+.1f} to {100 * wall.high / wall.before:+.1f} %)."


def _worth_a_row(change: Change) -> bool:
    if change.quantity.unit != "share":
        return True
    if change.quantity.group == "class":
        return max(change.before, change.after) >= LEAST_SHARE
    return abs(change.change) >= LEAST_SHARE or (change.told_apart and max(change.before, change.after) >= LEAST_SHARE)


def _row(change: Change) -> str:
    mark = "*" if change.told_apart else " "
    name = plain(change.quantity.name, NAME_WIDTH)
    if change.quantity.unit == "share":
        values = f"{percent(change.before):>8} {percent(change.after):>8} {100 * change.change:>+7.1f}p"
        bounds = "" if change.low is None else f"  {100 * change.low:+.1f} to {100 * (change.high or 0.0):+.1f}p"
    else:
        unit = {"s": " s", "x": "x"}.get(change.quantity.unit, "")
        values = " ".join(f"{value:.3f}{unit}".rjust(8) for value in (change.before, change.after))
        values += f" {change.change:+.3f}{unit}".rjust(10)
        bounds = "" if change.low is None else f"  {change.low:+.3f} to {change.high or 0.0:+.3f}{unit}"
    return f"{mark} {name:{NAME_WIDTH}} {values}{bounds}"
