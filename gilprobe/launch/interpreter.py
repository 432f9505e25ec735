"""Is this an interpreter that the recorder can be preloaded into? Told from its ELF header, without running it."""

from __future__ import annotations

import os
import shutil
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from gilprobe.errors import TargetError

X86_64, PT_DYNAMIC, PT_INTERP = 62, 2, 3


@dataclass(frozen=True, slots=True)
class Interpreter:
    path: Path


def inspect(python: str) -> Interpreter:
    """Raises TargetError for what is no interpreter, or one that ignores LD_PRELOAD."""
    found = shutil.which(python)
    if found is None:
        raise TargetError(f"{python} is not an executable", "Give --python the path of an interpreter.")
    path = Path(found).absolute()  # ./python as a Path is python, which would be looked up in PATH
    problem = obstacle(path)
    if problem:
        raise TargetError(f"{path} {problem}", "Give --python a dynamically linked 64-bit interpreter of this machine.")
    return Interpreter(path)


def obstacle(path: Path) -> str | None:
    """Why the recorder could not be preloaded, in words that follow the path; None if it can. Scripts pass."""
    try:
        status = path.stat()
        with path.open("rb") as file:
            head = file.read(64)
            if head[:2] == b"#!":
                return None
            if head[:4] != b"\x7fELF" or len(head) < 64:
                return "is not a program"
            machine = struct.unpack_from("<H", head, 18)[0]
            if head[4] != 2 or machine != X86_64:
                return "is not a 64-bit x86-64 program"
            offset, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
            file.seek(offset)
            table = file.read(size * count)
            loader = ""
            for at in range(0, len(table) - size + 1, size):
                if struct.unpack_from("<I", table, at)[0] == PT_INTERP:
                    where, length = (
                        struct.unpack_from("<Q", table, at + 8)[0],
                        struct.unpack_from("<Q", table, at + 32)[0],
                    )
                    file.seek(where)
                    loader = file.read(length).rstrip(b"\0").decode(errors="replace")
    except OSError as error:
        return f"cannot be read: {os.strerror(error.errno or 0)}"
    if not loader:
        return "is statically linked, which ignores LD_PRELOAD"
    if "musl" in loader:
        return "is linked against musl, whose calls the recorder does not know"
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return "is setuid, which ignores LD_PRELOAD"
    return None
