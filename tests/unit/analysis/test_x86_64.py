"""The instruction before an address is found whatever else of its function was asked for before."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import capstone
import pytest
from compiled import shared_library
from elftools.elf.elffile import ELFFile

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


# As CPython counts references: not where the object is immortal.
COUNTS = """
__asm__(".globl counts\\n.type counts, @function\\ncounts:\\n.cfi_startproc\\n"
        "cmpl $-1, 12(%rdi)\\n"
        JUMP
        "lock addq $4, 16(%rdi)\\n"
        "1: mov %rdi, %rax\\n"
        "ret\\n.cfi_endproc\\n.size counts, .-counts\\n");
"""


@pytest.mark.parametrize(("jump", "two_back"), [("je 1f", False), ("nop", True)])
def test_what_a_jump_may_have_passed_over_is_not_taken_for_executed(tmp_path: Path, jump: str, two_back: bool) -> None:
    library = shared_library(COUNTS.replace("JUMP", f'"{jump}\\n"'), tmp_path)
    assert ctypes.CDLL(str(library)).counts
    with library.open("rb") as opened:
        (symbol,) = ELFFile(opened).get_section_by_name(".dynsym").get_symbol_by_name("counts")
    start = symbol["st_value"]
    file = CodeFile(library)
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    code = file.code(start, start + symbol["st_size"])
    *_, move, end = [at for at, *_ in disassembler.disasm_lite(code, start)]
    behind = Decoder().operand_before(file, move)
    assert behind and behind.atomic and behind.displacement == 16
    assert Decoder().operand_before(file, end) == replace(behind, atomic=two_back)
