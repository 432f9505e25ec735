"""The instruction before an address is found whatever else of its function was asked for before."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import capstone

from gilprobe.analysis.code_ranges import CodeFile
from gilprobe.analysis.x86_64 import Decoder

# Any file with long functions, as the interpreter's loop is one.
LIBRARY = next((Path(capstone.__file__).parent / "lib").glob("libcapstone.so*"))
LEAST_BYTES, MOST_BYTES = 8192, 32768
FIRST, ASKED = 1200, 150  # neighbours, beyond the 4096 bytes that one question would disassemble


def long_function(file: CodeFile) -> tuple[int, int]:
    return next(pair for pair in pairwise(file._starts) if LEAST_BYTES < pair[1] - pair[0] < MOST_BYTES)


def test_decoding_does_not_depend_on_the_order_of_the_questions() -> None:
    file = CodeFile(LIBRARY)
    start, end = long_function(file)
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    boundaries = [at for at, _, _, _ in disassembler.disasm_lite(file.code(start, end), start)][FIRST : FIRST + ASKED]
    assert len(boundaries) == ASKED
    rising = Decoder()
    together = [rising.operand_before(file, at) for at in boundaries]
    assert together == [Decoder().operand_before(file, at) for at in boundaries]
    assert sum(operand is not None for operand in together) > 5
