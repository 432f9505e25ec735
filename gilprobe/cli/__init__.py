"""The command line: one file a command, imported when it is called."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import Any, TextIO

import click

from gilprobe.errors import GilprobeError, OutputError

COMMANDS = {
    "profile": "Run a script and report every wait of every thread, and who caused it.",
    "attach": "Record a program that runs already, for a while.",
    "report": "Make a report of a recording, in the format you name.",
    "doctor": "Say what can be observed here, and what is in the way.",
    "check": "Fail when a recording has more contention than you allow.",
    "diff": "Say what changed between two recordings.",
    "explore": "Find the interleaving that breaks a class.",
    "study": "Measure threads against processes in data loading.",
}


class Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if importlib.util.find_spec(f"gilprobe.cli.{name}")]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS or not importlib.util.find_spec(f"gilprobe.cli.{name}"):
            return None
        command: click.Command = getattr(importlib.import_module(f"gilprobe.cli.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=None, version="0.1.0", prog_name="gilprobe")
def cli() -> None:
    """Why are this program's threads slower than they should be, and what would make them faster?"""


def main(arguments: list[str] | None = None) -> Any:
    """The entry point. Exit status: 2 usage, 125 gilprobe's own failure, else the command's."""
    # A closed stream is None; /dev/null in its place is not inherited, so the script finds it closed as well.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, nowhere())
    try:
        status = cli.main(args=arguments, prog_name="gilprobe", standalone_mode=False)
        sys.stdout.flush()
    except GilprobeError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
    except click.ClickException as error:
        hint = "Try gilprobe --help." if error.__class__ is click.ClickException else _usage_hint(error)
        print(f"gilprobe: {_lower(error.format_message())}\n{hint}", file=sys.stderr)
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        sys.stdout = nowhere()
        what = f"{error.filename}: {error.strerror}" if error.filename else f"cannot write: {error.strerror}"
        print(f"gilprobe: {what}\nMake room, or send the output elsewhere.", file=sys.stderr)
        sys.exit(OutputError.exit_status)
    sys.exit(status if isinstance(status, int) else 0)


def nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"Try {context.command_path} --help." if context else "Try gilprobe --help."


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")
