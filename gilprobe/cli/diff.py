"""gilprobe diff: what changed between two recordings."""

from __future__ import annotations

from pathlib import Path

import click

from gilprobe.errors import UsageError
from gilprobe.model import Profile, WaitKind
from gilprobe.render.wording import percent, plain


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Compare recordings made differently all the same.")
def diff(before: Path, after: Path, force: bool) -> None:
    """Say what changed between two recordings.

    Shares are of all threads' time less what they idled or slept. With one recording a side a few points may be
    chance; record each side several times before you believe it.
    """
    from gilprobe.analysis import load

    old, new = load(before), load(after)
    differences = _made_differently(old, new)
    if differences and not force:
        raise UsageError(
            f"the recordings cannot be compared: {'; '.join(differences)}", "Record both alike, or add --force."
        )
    for difference in differences:
        print(f"made differently: {difference}")
    print(f"{'':42} {'before':>8} {'after':>8} {'change':>8}")
    _row("useful cores", old.accounting.actual, new.accounting.actual, "{:.2f}")
    for kind in (*(kind.value for kind in WaitKind), "spin", "runnable", "atomic-stall"):
        _shares(kind, _loss(old, kind), _loss(new, kind))
    for name in _names(old, new)[:10]:
        _shares(plain(name, 42), _wait(old, name), _wait(new, name))


def _made_differently(old: Profile, new: Profile) -> list[str]:
    checked = {"python": "Python", "rate_hz": "sampling rate", "sampler": "sampler"}
    return [
        f"{label} {old.meta.get(key)} and {new.meta.get(key)}"
        for key, label in checked.items()
        if old.meta.get(key) != new.meta.get(key)
    ]


def _loss(profile: Profile, kind: str) -> float:
    return sum(loss.share for loss in profile.accounting.losses if loss.name == kind)


def _wanted_s(profile: Profile) -> float:
    return sum(t.wanted_s for t in profile.threads)


def _wait(profile: Profile, name: str) -> float:
    wanted_s = _wanted_s(profile)
    return (
        sum(w.contended_s for w in profile.waits if w.name == name and not w.idle) / wanted_s if wanted_s > 0 else 0.0
    )


def _names(old: Profile, new: Profile) -> list[str]:
    names = {
        wait.name for profile in (old, new) for wait in profile.waits if not wait.idle and wait.kind != WaitKind.GIL
    }
    changed = {name: abs(_wait(old, name) - _wait(new, name)) for name in names}
    return sorted((name for name in changed if changed[name] >= 0.005), key=lambda name: -changed[name])


def _shares(label: str, before: float, after: float) -> None:
    if max(before, after) >= 0.001:
        print(f"{label:42} {percent(before):>8} {percent(after):>8} {100 * (after - before):>+7.1f}p")


def _row(label: str, before: float, after: float, shape: str) -> None:
    print(f"{label:42} {shape.format(before):>8} {shape.format(after):>8} {shape.format(after - before):>8}")
