"""gilprobe check: a build's gate."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click

from gilprobe.errors import UsageError
from gilprobe.model import Profile, WaitKind, own_frame
from gilprobe.render.wording import percent, place, plain

KINDS = tuple(kind.value for kind in WaitKind)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--max-wait", multiple=True, metavar="KIND=PERCENT", help=f"Kinds: {', '.join(KINDS)}.")
@click.option("--max-hot-object", metavar="PERCENT", help="Share of CPU samples on one object.")
@click.option("--config", type=click.Path(path_type=Path), help="A pyproject.toml [the one here].")
def check(recording: Path, max_wait: tuple[str, ...], max_hot_object: str | None, config: Path | None) -> int:
    """Fail when a recording has more contention than you allow.

    A wait's share is of all threads' time less what they idled or slept. [tool.gilprobe.check] in pyproject.toml can
    hold the same limits: max-wait = {lock = "5%"}, max-hot-object = "5%". Exit status: 1 exceeded, 3 no recording.
    """
    table = _configured(config)
    limits = {str(kind): _share(str(value)) for kind, value in dict(table.get("max-wait", {})).items()}
    for item in max_wait:
        kind, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"--max-wait {item} has no limit", "Write it as KIND=PERCENT: --max-wait lock=5%.")
        limits[kind] = _share(value)
    unknown = sorted(set(limits) - set(KINDS))
    if unknown:
        raise UsageError(f"there is no kind of wait called {unknown[0]}", f"Kinds are {', '.join(KINDS)}.")
    hot = max_hot_object or table.get("max-hot-object")
    hot_limit = _share(str(hot)) if hot is not None else None
    if not limits and hot_limit is None:
        raise UsageError("nothing to check", "Give --max-wait KIND=PERCENT or --max-hot-object PERCENT.")
    from gilprobe.analysis import load

    return int(_print(load(recording), limits, hot_limit))


def _configured(path: Path | None) -> dict[str, Any]:
    file = path or Path("pyproject.toml")
    if not file.exists():
        if path:
            raise UsageError(f"{path} does not exist", "Give the path of a pyproject.toml.")
        return {}
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is no TOML: {error}", "Mend it, or give another with --config.") from error
    table: dict[str, Any] = settings.get("tool", {}).get("gilprobe", {}).get("check", {})
    return table


def _share(text: str) -> float:
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"{text} is no percentage", "Give a number from 0 to 100: 5%.")
    return share


def _print(profile: Profile, limits: dict[str, float], hot_limit: float | None) -> bool:
    wanted_s = sum(t.wanted_s for t in profile.threads)
    exceeded = False
    for kind, limit in limits.items():
        waits = [wait for wait in profile.waits if wait.kind == kind]
        share = sum(wait.contended_s for wait in waits) / wanted_s if wanted_s > 0 else 0.0
        blame = f"{plain(waits[0].name, 60)} at {place(own_frame(waits[0].waiter))}" if waits else ""
        exceeded |= _row(kind, share, limit, blame)
    if hot_limit is not None:
        hottest = profile.hot_objects[0] if profile.hot_objects else None
        blame = f"{plain(hottest.object_type)} {plain(hottest.name, 60)}" if hottest else ""
        exceeded |= _row("hot object", hottest.share if hottest else 0.0, hot_limit, blame)
    return exceeded


def _row(name: str, share: float, limit: float, blame: str) -> bool:
    over = share > limit
    print(
        f"{'OVER' if over else 'ok':4}  {name:15} {percent(share):>6} of at most {percent(limit):>5}  {blame}".rstrip()
    )
    return over
