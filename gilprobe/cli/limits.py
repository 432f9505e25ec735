"""What gilprobe check allows: from the command line and from [tool.gilprobe.check] in pyproject.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gilprobe.errors import UsageError
from gilprobe.model import WaitKind

KINDS = tuple(kind.value for kind in WaitKind)
KEYS = ("max-wait", "max-hot-object", "no-deadlock", "no-inversion")


@dataclass(frozen=True, slots=True)
class Limits:
    """Shares 0-1; None: not checked."""

    waits: Mapping[str, float] = field(default_factory=dict)
    hot_object: float | None = None
    no_deadlock: bool = False
    no_inversion: bool = False


def wait_limits(items: Iterable[str]) -> dict[str, float]:
    """Of KIND=PERCENT. Raises UsageError."""
    limits = {}
    for item in items:
        kind, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"--max-wait {item} has no limit", "Write it as KIND=PERCENT: --max-wait lock=5%.")
        limits[_kind(kind)] = share_of(value, "--max-wait")
    return limits


def configured(path: Path | None) -> Limits:
    """Of `path`, else of the nearest pyproject.toml here or above. Raises UsageError where it holds nonsense."""
    file = path or next((file for folder in _upwards() if (file := folder / "pyproject.toml").is_file()), None)
    if file is None:
        return Limits()
    if not file.is_file():
        raise UsageError(f"{file} does not exist", "Give the path of a pyproject.toml.")
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is no TOML: {error}", "Mend it, or give another with --config.") from error
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", "Give another with --config.") from error
    return _limits(_table(_table(_table(settings, "tool", file), "gilprobe", file), "check", file), file)


def share_of(value: object, where: str) -> float:
    """5%, "5%", 5 and 5.0 are all 0.05. Raises UsageError."""
    number = str(value).strip().removesuffix("%")
    try:
        share = float(number) / 100 if not isinstance(value, bool) else -1.0
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"{where}: {value} is no percentage", "Give a number from 0 to 100: 5%.")
    return share


def _upwards() -> list[Path]:
    here = Path.cwd()
    return [here, *here.parents]


def _table(settings: Mapping[str, Any], key: str, file: Path) -> Mapping[str, Any]:
    table = settings.get(key, {})
    if not isinstance(table, dict):
        raise UsageError(f"{file}: {key} is no table", "Write [tool.gilprobe.check] and the limits below it.")
    return table


def _limits(table: Mapping[str, Any], file: Path) -> Limits:
    unknown = sorted(set(table) - set(KEYS))
    if unknown:
        raise UsageError(f"{file}: [tool.gilprobe.check] has no {unknown[0]}", f"It can have {', '.join(KEYS)}.")
    hot = table.get("max-hot-object")
    return Limits(
        waits={
            _kind(kind): share_of(value, f"{file}: {kind}") for kind, value in _table(table, "max-wait", file).items()
        },
        hot_object=None if hot is None else share_of(hot, f"{file}: max-hot-object"),
        no_deadlock=_switch(table, "no-deadlock", file),
        no_inversion=_switch(table, "no-inversion", file),
    )


def _kind(kind: str) -> str:
    if kind not in KINDS:
        raise UsageError(f"there is no kind of wait called {kind}", f"Kinds are {', '.join(KINDS)}.")
    return kind


def _switch(table: Mapping[str, Any], key: str, file: Path) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise UsageError(f"{file}: {key} is neither true nor false", f"Write {key} = true.")
    return value
