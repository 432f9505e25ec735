"""The page through which a rerun of --prove is told what to freeze (native/format.h, ProveControl)."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

HEAD = struct.Struct("<4I")  # pid, command, done, count
OBJECT = struct.Struct("<QIIQQ96s")  # object, result, local, shared, thread, type_name
MOST = 32
FREEZE = 1


class Control:
    """Made, zeroed, before the target starts; gone with the context."""

    def __init__(self, recording: Path) -> None:
        self._path = recording.with_name(recording.name + ".control")

    def __enter__(self) -> Control:
        self._path.write_bytes(bytes(HEAD.size + MOST * OBJECT.size))
        with self._path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._page.close()
        self._path.unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        """Of the process that takes orders; 0 before it has started."""
        return int(HEAD.unpack_from(self._page)[0])

    @property
    def done(self) -> bool:
        return bool(HEAD.unpack_from(self._page)[2])

    def freeze(self, objects: Sequence[tuple[int, str]]) -> None:
        """objects: (address, type's name); none only stops the world and lets it go on."""
        for i, (address, type_name) in enumerate(objects[:MOST]):
            name = type_name.encode()[:95]
            OBJECT.pack_into(self._page, HEAD.size + i * OBJECT.size, address, 0, 0, 0, 0, name)
        struct.pack_into("<I", self._page, 12, min(len(objects), MOST))
        # x86-64 keeps the order of stores: the target sees the objects before the command.
        struct.pack_into("<I", self._page, 4, FREEZE)
