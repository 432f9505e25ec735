"""Where functions start in an ELF file, also in a stripped one: the sorted table of .eh_frame_hdr.

Layout: Linux Standard Base 5.0, section 10.6.2 (Exception Frame Header).
"""

from __future__ import annotations

import bisect
import mmap
from functools import lru_cache
from pathlib import Path

import numpy as np

TABLE_DATAREL_SDATA4 = 0x3B
COUNT_UDATA4 = 0x03


class CodeFile:
    """Code bytes and function starts by virtual address. Raises OSError or ValueError for what is no such ELF file."""

    def __init__(self, path: Path) -> None:
        from elftools.common.exceptions import ELFError
        from elftools.elf.elffile import ELFFile

        with path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            try:
                elf = ELFFile(file)
                self.position_independent = elf.header.e_type == "ET_DYN"
                self._segments = [
                    (segment.header.p_vaddr, segment.header.p_filesz, segment.header.p_offset)
                    for segment in elf.iter_segments("PT_LOAD")
                ]
                header = next(elf.iter_segments("PT_GNU_EH_FRAME"), None)
                if header is None:
                    raise ValueError(f"{path} has no .eh_frame_hdr")
                self._starts = _starts(self._data, header.header.p_offset, header.header.p_vaddr)
            except ELFError as error:
                raise ValueError(str(error)) from error

    def function_start(self, address: int) -> int | None:
        at = bisect.bisect_right(self._starts, address) - 1
        return self._starts[at] if at >= 0 else None

    def function_end(self, start: int) -> int | None:
        """Where the next function starts; None after the last."""
        at = bisect.bisect_right(self._starts, start)
        return self._starts[at] if at < len(self._starts) else None

    def code(self, start: int, end: int) -> bytes:
        for address, size, offset in self._segments:
            if address <= start < address + size:
                end = min(end, address + size)
                return self._data[offset + start - address : offset + end - address]
        return b""


def _starts(data: mmap.mmap, offset: int, address: int) -> list[int]:
    if data[offset + 2] != COUNT_UDATA4 or data[offset + 3] != TABLE_DATAREL_SDATA4:
        raise ValueError("an .eh_frame_hdr of another encoding")
    count = int.from_bytes(data[offset + 8 : offset + 12], "little")
    table = np.frombuffer(data, "<i4", count=2 * count, offset=offset + 12)[::2]
    starts: list[int] = np.sort(table.astype(np.int64) + address).tolist()
    return starts


@lru_cache(maxsize=256)
def code_file(path: str) -> CodeFile | None:
    """None where the file is gone or is not one we can read."""
    try:
        return CodeFile(Path(path))
    except (OSError, ValueError):
        return None
