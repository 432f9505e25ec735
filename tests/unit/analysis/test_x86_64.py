"""The instruction before an address is found whatever else of its function was asked for before."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import capstone

from gilprobe.analysis.code_ranges import CodeFile
from gilprobe.analysis.x86_64 import Decoder

LIBRARY = Path(__file__).parents[3] / "gilprobe" / "native" / "libgilprobe.so"


def longest_function(file: CodeFile) -> tuple[int, int]:
    starts = [start for start in file._starts if file.code(start, start + 1)]
    return max(pairwise(starts), key=lambda pair: pair[1] - pair[0] if pair[1] - pair[0] < 8192 else 0)


def test_decoding_does_not_depend_on_the_order_of_the_questions() -> None:
    file = CodeFile(LIBRARY)
    start, end = longest_function(file)
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    boundaries = [at for at, _, _, _ in disassembler.disasm_lite(file.code(start, end), start)][1:]
    assert len(boundaries) > 100
    rising = Decoder()
    together = [rising.operand_before(file, at) for at in boundaries]
    assert together == [Decoder().operand_before(file, at) for at in boundaries]
    assert sum(operand is not None for operand in together) > 20
