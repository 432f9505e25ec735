"""What a renderer is, which there are, and how a report reaches the disk: beside its place, then renamed."""

from __future__ import annotations

import importlib
import os
import tempfile
from pathlib import Path
from typing import Protocol, TextIO

from gilprobe.errors import OutputError
from gilprobe.model import Profile


class Renderer(Protocol):
    suffix: str

    def render(self, profile: Profile) -> str | bytes: ...


# name -> (module, class); imported when asked for.
FORMATS = {
    "text": ("gilprobe.render.text", "Text"),
    "json": ("gilprobe.render.json_report", "Json"),
    "markdown": ("gilprobe.render.markdown", "Markdown"),
    "html": ("gilprobe.render.html", "Html"),
    "collapsed": ("gilprobe.render.collapsed", "Collapsed"),
    "speedscope": ("gilprobe.render.speedscope", "Speedscope"),
    "gecko": ("gilprobe.render.gecko", "Gecko"),
    "trace": ("gilprobe.render.trace_events", "TraceEvents"),
    "pprof": ("gilprobe.render.pprof", "Pprof"),
    "sarif": ("gilprobe.render.sarif", "Sarif"),
}
# The longer before the shorter that it ends in.
SUFFIXES = {
    ".speedscope.json": "speedscope",
    ".gecko.json": "gecko",
    ".trace.json": "trace",
    ".sarif.json": "sarif",
    ".sarif": "sarif",
    ".pb.gz": "pprof",
    ".pprof": "pprof",
    ".json": "json",
    ".md": "markdown",
    ".html": "html",
    ".txt": "text",
    ".collapsed": "collapsed",
}


def renderer(name: str) -> Renderer:
    module, class_name = FORMATS[name]
    made: Renderer = getattr(importlib.import_module(module), class_name)()
    return made


def format_of(path: Path) -> str:
    """The format a file name's suffix stands for. Raises OutputError if it stands for none."""
    for suffix, name in SUFFIXES.items():
        if path.name.endswith(suffix):
            return name
    raise OutputError(f"{path.name} does not tell its format", f"Name one with -f: {', '.join(sorted(FORMATS))}.")


def render_to(profile: Profile, name: str, out: TextIO) -> None:
    """Characters that `out` cannot hold (an ASCII pipe, a lone surrogate) become question marks.

    Raises OutputError where a binary format would go to a terminal or a text-only stream.
    """
    report = renderer(name).render(profile)
    if isinstance(report, bytes):
        binary = getattr(out, "buffer", None)
        if binary is None or out.isatty():
            raise OutputError(f"{name} is a binary format", "Name a file with -o, or send it into a pipe.")
        out.flush()
        binary.write(report)
        return
    encoding = getattr(out, "encoding", None) or "utf-8"
    text = report.encode(encoding, "replace").decode(encoding)
    out.write(text)
    if not text.endswith("\n"):
        out.write("\n")


def write_report(profile: Profile, name: str, path: Path, *, force: bool = False) -> None:
    """Whole or not at all. Raises OutputError where `path` exists (without force) or cannot be written."""
    if path.exists() and not force:
        raise OutputError(f"{path} exists", "Choose another name, or add --force.")
    report = renderer(name).render(profile)
    data = report if isinstance(report, bytes) else report.encode("utf-8", "replace")
    try:
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            umask = os.umask(0)
            os.umask(umask)
            Path(beside).chmod(0o666 & ~umask)
            Path(beside).replace(path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
    except FileNotFoundError as error:
        raise OutputError(f"the folder {path.parent} does not exist", "Make it first, or choose another.") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}", "Choose another place.") from error
