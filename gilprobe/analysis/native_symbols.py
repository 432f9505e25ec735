"""The functions of a program's libraries by program counter: from the ELF file's .symtab, or else its .dynsym."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePath

from gilprobe.elf import opened, symbol_table
from gilprobe.recording.contents import Image

UNKNOWN = "native function unknown"


def symbols(path: Path, sections: Sequence[str]) -> dict[int, tuple[int, str]]:
    """Virtual address of a function -> (its bytes, its name); a later section's names win. Raises OSError or ValueError
    for what is no ELF file, ImportError without pyelftools.
    """
    found: dict[int, tuple[int, str]] = {}
    with opened(path) as elf:
        for section in sections:
            table = symbol_table(elf, section)
            for symbol in table.iter_symbols() if table else ():
                entry = symbol.entry
                if entry.st_info.type in ("STT_FUNC", "STT_GNU_IFUNC") and entry.st_size and symbol.name:
                    found[entry.st_value] = (entry.st_size, symbol.name)
    return found


class Functions:
    """Of one ELF file, by virtual address. Raises what `symbols` does."""

    def __init__(self, path: Path) -> None:
        self._names = symbols(path, (".dynsym", ".symtab"))  # .symtab has local functions too
        self._starts = sorted(self._names)

    def name(self, address: int) -> str:
        """Empty where the file has no symbol there (it is stripped)."""
        at = bisect.bisect_right(self._starts, address) - 1
        if at < 0:
            return ""
        size, name = self._names[self._starts[at]]
        return name if address < self._starts[at] + size else ""


@lru_cache(maxsize=64)
def functions_of(path: str) -> Functions | None:
    """None where the file is gone or cannot be read. Raises ImportError without pyelftools."""
    try:
        return Functions(Path(path))
    except (OSError, ValueError):
        return None


class NativeCode:
    """What the program counters of one process belong to."""

    def __init__(self, images: Sequence[Image]) -> None:
        self._images = sorted({(image.start, image.end, image.bias, image.path) for image in images})
        self._starts = [start for start, *_ in self._images]

    def function_at(self, pc: int) -> tuple[str, str]:
        """(function, library's file name); `native function unknown` where its file does not tell."""
        for at in range(bisect.bisect_right(self._starts, pc) - 1, -1, -1):
            _, end, bias, path = self._images[at]
            if pc < end:
                try:
                    functions = functions_of(path)
                except ImportError:
                    functions = None
                return (functions and functions.name(pc - bias)) or UNKNOWN, PurePath(path).name
        return UNKNOWN, ""
