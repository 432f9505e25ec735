"""The files that a running process has mapped, and where their functions lie in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gilprobe.elf import opened, symbol_table

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile


@dataclass(frozen=True, slots=True)
class ElfImage:
    """path: as the process has it. start: where its first page lies there. readable: the file, whatever the process's
    root is.
    """

    path: str
    start: int
    readable: Path

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def functions(self, *names: str) -> dict[str, tuple[int, int]]:
        """Of those that it exports: name -> (address in the process, bytes). Raises OSError; ValueError for no ELF."""
        with opened(self.readable) as elf:
            table = symbol_table(elf, ".dynsym")
            if table is None:
                return {}
            base = self.start - _first_address(elf)
            return {
                name: (base + symbol["st_value"], symbol["st_size"])
                for name in names
                for symbol in table.get_symbol_by_name(name) or ()
                if symbol["st_value"]
            }


def images(pid: int) -> list[ElfImage]:
    """The program first; what is no ELF file included. Raises OSError where the process cannot be looked at."""
    found: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/maps").read_text(errors="surrogateescape").splitlines():
        parts = line.split(maxsplit=5)
        if len(parts) == 6 and parts[5].startswith("/") and int(parts[2], 16) == 0:
            found.setdefault(parts[5], int(parts[0].partition("-")[0], 16))
    return [ElfImage(path, start, Path(f"/proc/{pid}/root{path}")) for path, start in found.items()]


def _first_address(elf: ELFFile) -> int:
    """Where the file says that it wants to lie: 0 but for programs at a fixed place."""
    starts = [segment["p_vaddr"] - segment["p_offset"] for segment in elf.iter_segments("PT_LOAD")]
    return min(starts, default=0) & -os.sysconf("SC_PAGESIZE")
