"""Every error a person at the keyboard can meet: one line on what is wrong, one on what to do."""

from __future__ import annotations


class GilprobeError(Exception):
    """What is wrong (`message`, lower case, no full stop) and what to do about it (`hint`, one line)."""

    exit_status = 125

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"gilprobe: {self.message}\n{self.hint}"


class UsageError(GilprobeError):
    """The command line cannot be carried out as written."""

    exit_status = 2


class TargetError(UsageError):
    """The script, module or interpreter to profile cannot be run."""


class OutputError(UsageError):
    """The output cannot be written where it was asked for."""


class RecordingError(GilprobeError):
    """The recording is missing, empty, damaged, of another version, or not a recording."""

    exit_status = 3


class PlatformError(GilprobeError):
    """gilprobe has no recorder for this operating system or processor."""
