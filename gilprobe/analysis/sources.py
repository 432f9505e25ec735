"""Lines of the source files that a recording names: names come from the recorded program, so nothing else is opened."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

MOST_BYTES = 16 << 20
CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")  # PEP 263
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@lru_cache(maxsize=512)
def source_lines(file: str) -> tuple[bytes, ...]:
    """UTF-8, as bytecode positions count columns; empty where there is no such regular file.

    A script may have been read from /dev/stdin or a pipe: to open that would wait for our own standard input.
    """
    path = Path(file)
    try:
        if not path.is_absolute() or not path.is_file() or path.stat().st_size > MOST_BYTES:
            return ()
        data = path.read_bytes().removeprefix(BYTE_ORDER_MARK)
        return tuple(_utf8(data).splitlines())
    except (OSError, ValueError, LookupError):
        return ()


def _utf8(data: bytes) -> bytes:
    for line in data.split(b"\n", 2)[:2]:
        declared = CODING.match(line)
        if declared:
            return data.decode(declared[1].decode("ascii")).encode()
    return data
