"""The options of a comparison with one worker, the same wherever it is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def baseline_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--baseline and --work, as parameters of those names."""
    command = click.option(
        "--work",
        default=1.0,
        show_default=True,
        type=click.FloatRange(min=0, min_open=True),
        help="With --baseline: this run's work, in units of the baseline's.",
    )(command)
    return click.option(
        "--baseline",
        type=click.Path(path_type=Path),
        help="A recording of the same script with one worker: what the speed-up was lost to.",
    )(command)
