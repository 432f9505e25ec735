"""gilprobe check: a build's gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from gilprobe.cli.limits import KINDS, Limits, configured, share_of, wait_limits
from gilprobe.errors import RecordingError, UsageError
from gilprobe.model import Profile, Wait, own_frame
from gilprobe.render.wording import percent, place, plain, who_released

# With nothing seen in n samples, the 95 % upper bound of a share is 3 / n.
RULE_OF_THREE = 3.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--max-wait", multiple=True, metavar="KIND=PERCENT", help=f"Kinds: {', '.join(KINDS)}.")
@click.option("--max-hot-object", metavar="PERCENT", help="Share of CPU samples on one object.")
@click.option("--no-deadlock/--allow-deadlock", default=None, help="No deadlock was found; needs the watchdog.")
@click.option("--no-inversion/--allow-inversion", default=None, help="No order of locks that could deadlock.")
@click.option("--config", type=click.Path(path_type=Path), help="A pyproject.toml [the one here, or above].")
def check(
    recording: Path,
    max_wait: tuple[str, ...],
    max_hot_object: str | None,
    no_deadlock: bool | None,
    no_inversion: bool | None,
    config: Path | None,
) -> int:
    """Fail when a recording has more contention than you allow.

    A wait's share is of all threads' time less what they idled or slept. The same limits can stand in pyproject.toml;
    what the command line says of a limit wins:

    \b
        [tool.gilprobe.check]
        max-wait = {lock = "5%", gil = "10%"}
        max-hot-object = "5%"
        no-deadlock = true
        no-inversion = true

    Exit status: 0 within the limits, 1 beyond one, 2 usage, 3 the recording cannot tell.
    """
    limits = configured(config)
    limits = Limits(
        waits={**limits.waits, **wait_limits(max_wait)},
        hot_object=share_of(max_hot_object, "--max-hot-object") if max_hot_object is not None else limits.hot_object,
        no_deadlock=limits.no_deadlock if no_deadlock is None else no_deadlock,
        no_inversion=limits.no_inversion if no_inversion is None else no_inversion,
    )
    if limits == Limits():
        raise UsageError("nothing to check", "Give --max-wait KIND=PERCENT, --max-hot-object PERCENT or --no-deadlock.")
    from gilprobe.analysis import load

    profile = load(recording)
    rows = list(_rows(profile, limits))
    for row in rows:
        print(row)
    if any(row.exceeded for row in rows):
        return 1
    unknown = [*_holes(profile), *(f"{row.name}: {row.unknown}" for row in rows if row.unknown)]
    if unknown:
        raise RecordingError(f"{recording} cannot tell: {plain(unknown[0])}", "Record it again with what is missing.")
    return 0


@dataclass(frozen=True, slots=True)
class Row:
    """unknown: why the recording cannot tell. blame: the lines to look at, the worst first."""

    name: str
    found: str
    allowed: str
    exceeded: bool
    blame: Sequence[str] = ()
    unknown: str = ""

    def __str__(self) -> str:
        state = "OVER" if self.exceeded else "?" if self.unknown else "ok"
        found = "not seen" if self.unknown else self.found
        lines = [f"{state:4}  {self.name:15} {found:>8} {self.allowed}".rstrip()]
        shown = self.blame if self.exceeded else self.blame[:1]
        return "\n".join([*lines, *(f"          {line}" for line in shown)])


def _rows(profile: Profile, limits: Limits) -> Iterator[Row]:
    for kind, limit in limits.waits.items():
        yield _wait_row(profile, kind, limit)
    if limits.hot_object is not None:
        yield _hot_row(profile, limits.hot_object)
    if limits.no_deadlock:
        yield _count_row(profile, "deadlock", "deadlocks", profile.deadlocks)
    if limits.no_inversion:
        yield _count_row(profile, "inversion", "lock_order", profile.lock_order)


def _wait_row(profile: Profile, kind: str, limit: float) -> Row:
    wanted_s = sum(thread.wanted_s for thread in profile.threads)
    waits = sorted((wait for wait in profile.waits if wait.kind == kind), key=lambda wait: -wait.contended_s)
    share = sum(wait.contended_s for wait in waits) / wanted_s if wanted_s > 0 else 0.0
    blame = [_blame(wait, wanted_s) for wait in waits[:3] if wait.contended_s > 0]
    return Row(kind, percent(share), f"of at most {percent(limit)}", share > limit, blame)


def _blame(wait: Wait, wanted_s: float) -> str:
    """`12%  self._lock at cache.py:12 in get, ended by worker at cache.py:20 in put`"""
    ended = who_released(wait)
    line = f"{percent(wait.contended_s / wanted_s):>5}  {plain(wait.name, 60)} at {place(own_frame(wait.waiter))}"
    return f"{line}, ended by {ended}" if ended else line


def _hot_row(profile: Profile, limit: float) -> Row:
    allowed = f"of at most {percent(limit)}"
    if profile.hot_objects:
        hottest = max(profile.hot_objects, key=lambda hot: hot.share)
        low, high = hottest.interval
        where = place(own_frame(hottest.site)) if hottest.site else "?"
        sure = f"sampled: {percent(low)} to {percent(high)}"
        blame = f"{plain(hottest.object_type)} {plain(hottest.name, 60)} at {where} ({sure})"
        return Row("hot object", percent(hottest.share), allowed, hottest.share > limit, [blame])
    if not any(process.free_threaded for process in profile.processes):
        return Row("hot object", percent(0), allowed, False, ["with the GIL, threads do not fight over objects"])
    unknown, samples = _why_unseen(profile, "hot"), profile.meta.get("samples", 0)
    if not unknown and samples * limit < RULE_OF_THREE and limit > 0:
        unknown = f"{samples} CPU samples cannot rule out {percent(limit)}"
    return Row("hot object", percent(0), allowed, False, unknown=unknown)


def _count_row(profile: Profile, name: str, key: str, found: Sequence[Mapping[str, Any]]) -> Row:
    blame = [line for each in found[:3] for line in _lines_in(each)]
    unknown = "" if found else _why_unseen(profile, key)
    return Row(name, str(len(found)), "of at most 0", bool(found), blame, unknown)


def _lines_in(found: Mapping[str, Any]) -> Iterator[str]:
    from gilprobe.render.sarif import steps_of

    for thread in steps_of(found):
        for text, stack in thread:
            yield f"{plain(text, 60)} at {place(own_frame(stack))}"


def _why_unseen(profile: Profile, key: str) -> str:
    """What a recording did not observe is no proof that it was not there."""
    for item in profile.not_observed:
        if item.what.lower().replace(" ", "_").startswith(key):
            return f"not observed: {item.why}"
    return ""


def _holes(profile: Profile) -> Iterator[str]:
    if not profile.threads:
        yield "it holds no thread"
    for process in profile.processes:
        if process.lost_records:
            yield f"{process.lost_records} records of process {process.pid} could not be written"
