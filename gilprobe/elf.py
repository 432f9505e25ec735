"""Tables of symbols in ELF files. pyelftools is imported when a file is read: not everybody has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection


@contextmanager
def opened(path: Path) -> Iterator[ELFFile]:
    """Raises OSError; ValueError for what is no ELF file, or a damaged one, also while it is open; ImportError without
    pyelftools.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with path.open("rb") as file:
            yield ELFFile(file)
    except (ELFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error


def symbol_table(elf: ELFFile, section: str) -> SymbolTableSection | None:
    from elftools.elf.sections import SymbolTableSection

    table = elf.get_section_by_name(section)
    return table if isinstance(table, SymbolTableSection) else None
