"""What a renderer is, which there are, and how a report reaches the disk: beside its place, then renamed."""

from __future__ import annotations

import importlib
import os
import secrets
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


def renderer(name: str, before: Profile | None = None) -> Renderer:
    """before: the recording to compare with, for the formats that can."""
    module, class_name = FORMATS[name]
    make = getattr(importlib.import_module(module), class_name)
    made: Renderer = make(before) if before is not None else make()
    return made


def format_of(path: Path) -> str:
    """The format a file name's suffix stands for. Raises OutputError if it stands for none."""
    for suffix, name in SUFFIXES.items():
        if path.name.endswith(suffix):
            return name
    raise OutputError(f"{path.name} does not tell its format", f"Name one with -f: {', '.join(sorted(FORMATS))}.")


def render_to(profile: Profile, name: str, out: TextIO, *, before: Profile | None = None) -> None:
    """Characters that `out` cannot hold (an ASCII pipe, a lone surrogate) become question marks.

    Raises OutputError where a binary format would go to a terminal or a text-only stream.
    """
    report = renderer(name, before).render(profile)
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


def write_report(
    profile: Profile, name: str, path: Path, *, force: bool = False, before: Profile | None = None
) -> None:
    """Whole or not at all. Raises OutputError where `path` exists (without force) or cannot be written."""
    if path.exists() and not force and (path.is_file() or path.is_dir()):
        raise OutputError(f"{path} exists", "Choose another name, or add --force.")
    write_whole(renderer(name, before).render(profile), path)


def write_whole(report: str | bytes, path: Path) -> None:
    """Beside its place, then renamed over what is there; a device or a pipe is written into, a link stays one. Raises
    OutputError where it cannot be written.
    """
    data = report if isinstance(report, bytes) else report.encode("utf-8", "replace")
    place = path.resolve() if path.is_symlink() else path
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)  # a folder says so
            return
        beside = _beside(place)
        try:
            _fill(beside, place, data)
            beside.replace(place)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        if not place.parent.is_dir():
            missing = f"the folder {path.parent} does not exist"
            raise OutputError(missing, "Make it first, or choose another.") from error
        raise OutputError(f"{path} cannot be written: {error.strerror}", "Choose another place.") from error


def _beside(place: Path) -> Path:
    return place.parent / f".{place.name[:100]}.{secrets.token_hex(6)}"


def _fill(beside: Path, place: Path, data: bytes) -> None:
    """The file has no name before all of it is there (O_TMPFILE), so that a kill leaves nothing behind. File systems
    that cannot do so (overlays of old kernels, NFS) get a named one.
    """
    try:
        handle = os.open(place.parent, os.O_TMPFILE | os.O_WRONLY, 0o666)
    except OSError:
        with beside.open("xb") as file:
            file.write(data)
        return
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        folder = os.open(place.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            # With a folder given Python calls linkat, which can follow the link that /proc has for the file.
            os.link(f"/proc/self/fd/{handle}", beside.name, dst_dir_fd=folder, follow_symlinks=True)
        finally:
            os.close(folder)
