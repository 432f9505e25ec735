"""The functions of a program's libraries by program counter: from the ELF file's .symtab, or else its .dynsym.

A library may have hundreds of thousands (torch's has): only those that are asked for get a name.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePath

import numpy as np

from gilprobe.elf import opened, symbol_table
from gilprobe.recording.contents import Image

UNKNOWN = "native function unknown"

# Elf64_Sym of elf(5)
SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
STT_FUNC, STT_GNU_IFUNC = 2, 10


class Functions:
    """Of one ELF file, by virtual address; of two at one address the later section's. Raises OSError; ValueError for
    what is no ELF file of 64 bits; ImportError without pyelftools.
    """

    def __init__(self, path: Path, sections: Sequence[str] = (".dynsym", ".symtab")) -> None:
        # .symtab has local functions too
        tables = [np.empty(0, SYMBOL)]
        self._texts: list[bytes] = [b""]
        with opened(path) as elf:
            for section in sections:
                table = symbol_table(elf, section)
                if table is None:
                    continue
                data = table.data()
                if table["sh_entsize"] != SYMBOL.itemsize or len(data) % SYMBOL.itemsize:
                    raise ValueError(f"{path} has no symbols of 64 bits")
                tables.append(np.frombuffer(data, SYMBOL))
                self._texts.append(table.stringtable.data())
        found = np.concatenate(tables)
        text = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
        kind = found["info"] & 15
        functions = ((kind == STT_FUNC) | (kind == STT_GNU_IFUNC)) & (found["size"] > 0) & (found["name"] > 0)
        found, text = found[functions], text[functions]
        order = np.argsort(found["value"], kind="stable")
        found, text = found[order], text[order]
        last = np.append(found["value"][1:] != found["value"][:-1], True) if len(found) else np.empty(0, bool)
        self._found, self._text = found[last], text[last]
        self._starts = self._found["value"]

    def __iter__(self) -> Iterator[tuple[int, int, str]]:
        """(virtual address, bytes, name)"""
        for at, symbol in enumerate(self._found):
            yield int(symbol["value"]), int(symbol["size"]), self._name(at)

    def name(self, address: int) -> str:
        """Empty where the file has no symbol there (it is stripped)."""
        at = int(np.searchsorted(self._starts, np.uint64(address), "right")) - 1 if address >= 0 else -1
        if at < 0 or address >= int(self._starts[at]) + int(self._found["size"][at]):
            return ""
        return self._name(at)

    def _name(self, at: int) -> str:
        text: bytes = self._texts[self._text[at]]
        start = int(self._found["name"][at])
        end = text.find(b"\0", start)
        return text[start : end if end >= 0 else None].decode(errors="replace")


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
