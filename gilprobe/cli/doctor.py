"""gilprobe doctor: what can be observed here, and what is in the way."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from gilprobe.launch import inspect
from gilprobe.launch.probes import Check, interpreter_facts, preloading, sampling, spying, tracing
from gilprobe.native_library import library

MARKS = {"ok": "ok", "limited": "--", "missing": "NO"}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--python", default=sys.executable, help="The interpreter to ask about [gilprobe's own].")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.argument("modules", nargs=-1)
def doctor(python: str, as_json: bool, modules: tuple[str, ...]) -> int:
    """Say what can be observed here, and what is in the way.

    MODULES are imported one after the other in that interpreter: on a free-threaded build the one that turns the GIL on
    is named. Exit status 1 if recording is impossible.
    """
    library()
    interpreter = inspect(python)
    checks: list[Check] = [
        *interpreter_facts(str(interpreter.path), list(modules)),
        *preloading(interpreter.path),
        *sampling(),
        *tracing(),
        *spying(str(interpreter.path)),
    ]
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        for check in checks:
            print(f"{MARKS[check.state]}  {check.name:20} {check.detail}")
    return int(any(check.state == "missing" and check.name == "preloading" for check in checks))
