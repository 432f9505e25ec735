"""The instruction before an address is found whatever else of its function was asked for before."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import capstone
import pytest
from compiled import shared_library
from elftools.elf.elffile import ELFFile

from gilprobe.analysis.code_ranges import CodeFile
from gilprobe.analysis.x86_64 import REGISTERS, REPLACED, Decoder, MemoryOperand

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
cmpl $-1, 12(%rdi)
JUMP
lock addq $4, 16(%rdi)
1: mov %rdi, %rax
ret"""


def function(body: str, folder: Path) -> tuple[CodeFile, list[int]]:
    """A file with one function, and where its instructions begin."""
    lines = "".join(f'"{line}\\n"' for line in body.strip().splitlines())
    source = f"""__asm__(".globl it\\n.type it, @function\\nit:\\n.cfi_startproc\\n" {lines}
                         ".cfi_endproc\\n.size it, .-it\\n");"""
    library = shared_library(source, folder)
    with library.open("rb") as opened:
        (symbol,) = ELFFile(opened).get_section_by_name(".dynsym").get_symbol_by_name("it")
    start, file = symbol["st_value"], CodeFile(library)
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    return file, [at for at, *_ in disassembler.disasm_lite(file.code(start, start + symbol["st_size"]), start)]


@pytest.mark.parametrize(("jump", "two_back"), [("je 1f", False), ("nop", True)])
def test_what_a_jump_may_have_passed_over_is_not_taken_for_executed(tmp_path: Path, jump: str, two_back: bool) -> None:
    file, (*_, move, end) = function(COUNTS.replace("JUMP", jump), tmp_path)
    behind = Decoder().operand_before(file, move)
    assert behind and behind.atomic and behind.displacement == 16
    assert Decoder().operand_before(file, end) == replace(behind, atomic=two_back, back=end - move)


RAX, RSI = REGISTERS.index("rax"), REGISTERS.index("rsi")
SLOT, COPY = "mov -8(%rbp), %rax", "mov %rsi, %rax"


@pytest.mark.parametrize(
    ("before", "load", "base"),
    [
        (SLOT, "mov 0x30(%rax), %rax", REPLACED),
        (SLOT, "movzbl 0x30(%rax), %eax", REPLACED),
        (SLOT, "mov 0x30(%rax), %rdx", RAX),
        (COPY, "mov 0x30(%rax), %rax", RSI),
        ("mov -8(%rdx), %rax", "mov 0x30(%rax), %rax", None),  # not a slot: another thread may have written it since
        ("mov -8(%rbp), %eax", "mov 0x30(%rax), %rax", None),
        (SLOT + "\n1: nop", "mov 0x30(%rax), %rax", None),
        ("jne 1f\n" + SLOT + "\n1:", "mov 0x30(%rax), %rax", None),
        (SLOT + "\nnop", "mov 0x30(%rax,%rax), %rax", None),
    ],
)
def test_the_base_of_a_load_that_writes_it_is_where_the_instruction_before_took_it_from(
    tmp_path: Path, before: str, load: str, base: int | None
) -> None:
    file, (*_, _load, add, end) = function(f"{before}\n{load}\nadd $1, %ecx\nret", tmp_path)
    expected = base if base is None else MemoryOperand(base, -1, 1, 0x30, False, False)
    assert Decoder().operand_before(file, add) == expected
    assert Decoder().operand_before(file, end) == (expected and replace(expected, back=end - add))
