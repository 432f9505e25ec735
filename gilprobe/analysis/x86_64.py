"""The memory operand of the instruction executed before a sampled program counter, on x86-64 (capstone)."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, replace
from typing import Any

from gilprobe.analysis.code_ranges import CodeFile

# Order of SampleRecord.registers.
REGISTERS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
NUMBER = {name: number for number, name in enumerate(REGISTERS)}
STACK = frozenset({"rsp", "rbp"})
LOCK_PREFIX = 0xF0
MOST_FUNCTION_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class MemoryOperand:
    """base + index * scale + displacement; base and index are positions in REGISTERS, -1 for none.

    absolute: the displacement is a virtual address of the file (rip-relative), to be moved by the image's bias.
    """

    base: int
    index: int
    scale: int
    displacement: int
    absolute: bool
    atomic: bool


class Decoder:
    """Raises ImportError where capstone is missing."""

    def __init__(self) -> None:
        import capstone

        self._memory = capstone.x86.X86_OP_MEM
        self._detailed = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._detailed.detail = True
        self._boundaries = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._functions: dict[tuple[int, int], tuple[list[int], frozenset[int]]] = {}

    def operand_before(self, file: CodeFile, address: int) -> MemoryOperand | None:
        """`address` is virtual. Looks one instruction back, or two where that one touches no memory; an atomic before
        a jump's target may have been jumped over then, as counting is where an object is immortal: it is called none.
        """
        start = file.function_start(address)
        if start is None:
            return None
        boundaries, targets = self._instructions(file, start, address)
        written: set[str] = set()
        for back in (1, 2):
            at = len(boundaries) - back
            if at < 0:
                return None
            instruction = next(
                self._detailed.disasm(file.code(boundaries[at], boundaries[at] + 16), boundaries[at], 1), None
            )
            if instruction is None:
                return None
            written |= {_full(instruction.reg_name(register)) for register in instruction.regs_access()[1]}
            operand = self._operand(instruction, written)
            if operand is not None:
                jumped = back == 2 and boundaries[-1] in targets
                return replace(operand, atomic=False) if jumped else operand
            if any(o.type == self._memory for o in instruction.operands):
                return None
        return None

    def _instructions(self, file: CodeFile, start: int, address: int) -> tuple[list[int], frozenset[int]]:
        """Starts of the function's two instructions below `address`, none if it is not at a boundary; and where its
        direct jumps go."""
        if address - start > MOST_FUNCTION_BYTES:
            return [], frozenset()
        starts, targets = self._function(file, start)
        at = bisect.bisect_left(starts, address)
        return starts[max(0, at - 2) : at] if at < len(starts) and starts[at] == address else [], targets

    def _function(self, file: CodeFile, start: int) -> tuple[list[int], frozenset[int]]:
        key = (id(file), start)
        known = self._functions.get(key)
        if known is None:
            end = file.function_end(start) or start + MOST_FUNCTION_BYTES
            code = file.code(start, min(end, start + MOST_FUNCTION_BYTES))
            starts, targets = [], set()
            for at, _, mnemonic, operands in self._boundaries.disasm_lite(code, start):
                starts.append(at)
                if mnemonic.startswith("j") and operands.startswith("0x"):
                    targets.add(int(operands, 16))
            starts.append(start + len(code))
            known = self._functions[key] = starts, frozenset(targets)
        return known

    def _operand(self, instruction: Any, written: set[str]) -> MemoryOperand | None:
        if instruction.mnemonic in ("lea", "nop"):
            return None
        for operand in instruction.operands:
            if operand.type != self._memory:
                continue
            memory = operand.mem
            base = instruction.reg_name(memory.base) if memory.base else ""
            index = instruction.reg_name(memory.index) if memory.index else ""
            if memory.segment or base in STACK or {base, index} & written - {"rip"}:
                return None
            if any(name and name not in NUMBER and name != "rip" for name in (base, index)):
                return None
            absolute = base == "rip"
            return MemoryOperand(
                base=-1 if absolute or not base else NUMBER[base],
                index=NUMBER[index] if index else -1,
                scale=memory.scale,
                displacement=memory.disp + (instruction.address + instruction.size if absolute else 0),
                absolute=absolute,
                atomic=instruction.prefix[0] == LOCK_PREFIX or instruction.mnemonic == "xchg",
            )
        return None


def _full(name: str) -> str:
    """The 64-bit register that a narrower name is part of, where writing it changes an address."""
    if name in NUMBER:
        return name
    if name.startswith("e") and "r" + name[1:] in NUMBER:
        return "r" + name[1:]
    stripped = name.rstrip("dwb")
    if stripped in NUMBER:
        return stripped
    if len(name) == 2:
        for full in REGISTERS[:8]:
            if full[1] == name[0] or full[1:] == name:
                return full
    return name
