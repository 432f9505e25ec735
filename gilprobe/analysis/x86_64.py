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
# In place of a register: SampleRecord.base.
REPLACED = len(REGISTERS)
LOCK_PREFIX = 0xF0
MOST_FUNCTION_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class MemoryOperand:
    """base + index * scale + displacement; base and index are positions in REGISTERS, -1 for none.

    base REPLACED: what the register was before the instruction itself wrote it, which SampleRecord.base holds where
    its base_back is `back`, the bytes from the end of the instruction to the sampled address.
    absolute: the displacement is a virtual address of the file (rip-relative), to be moved by the image's bias.
    """

    base: int
    index: int
    scale: int
    displacement: int
    absolute: bool
    atomic: bool
    back: int = 0


class Decoder:
    """Raises ImportError where capstone is missing."""

    def __init__(self) -> None:
        import capstone

        self._memory, self._register = capstone.x86.X86_OP_MEM, capstone.x86.X86_OP_REG
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
        changed: set[str] = set()
        for back in (1, 2):
            at = len(boundaries) - back
            if at < 0:
                return None
            instruction = self._detail(file, boundaries[at])
            if instruction is None:
                return None
            before = self._detail(file, boundaries[at - 1]) if at and boundaries[at] not in targets else None
            operand = self._operand(instruction, changed, before)
            if operand is not None:
                jumped = back == 2 and boundaries[-1] in targets
                end = boundaries[at] + instruction.size
                return replace(operand, atomic=operand.atomic and not jumped, back=address - end)
            if any(o.type == self._memory for o in instruction.operands):
                return None
            changed |= self._written(instruction)
        return None

    def _detail(self, file: CodeFile, at: int) -> Any:
        return next(self._detailed.disasm(file.code(at, at + 16), at, 1), None)

    @staticmethod
    def _written(instruction: Any) -> set[str]:
        return {_full(instruction.reg_name(register)) for register in instruction.regs_access()[1]}

    def _instructions(self, file: CodeFile, start: int, address: int) -> tuple[list[int], frozenset[int]]:
        """Starts of the function's three instructions below `address`, none if it is not at a boundary; and where its
        direct jumps go."""
        if address - start > MOST_FUNCTION_BYTES:
            return [], frozenset()
        starts, targets = self._function(file, start)
        at = bisect.bisect_left(starts, address)
        return starts[max(0, at - 3) : at] if at < len(starts) and starts[at] == address else [], targets

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

    def _operand(self, instruction: Any, changed: set[str], before: Any) -> MemoryOperand | None:
        """changed: registers written since. before: the instruction that must have been executed before this one."""
        if instruction.mnemonic in ("lea", "nop"):
            return None
        operand = next((operand for operand in instruction.operands if operand.type == self._memory), None)
        if operand is None:
            return None
        memory = operand.mem
        base = instruction.reg_name(memory.base) if memory.base else ""
        index = instruction.reg_name(memory.index) if memory.index else ""
        absolute = base == "rip"
        if memory.segment or any(name and name not in NUMBER and name != "rip" for name in (base, index)):
            return None
        own = self._written(instruction)
        if index in changed | own:
            return None
        number: int | None = -1 if absolute or not base else NUMBER[base]
        if base in own:
            number = self._source(base, before, changed | own)
        elif base in changed or base in STACK:
            number = None
        if number is None:
            return None
        return MemoryOperand(
            base=number,
            index=NUMBER[index] if index else -1,
            scale=memory.scale,
            displacement=memory.disp + (instruction.address + instruction.size if absolute else 0),
            absolute=absolute,
            atomic=instruction.prefix[0] == LOCK_PREFIX or instruction.mnemonic == "xchg",
        )

    def _source(self, base: str, before: Any, changed: set[str]) -> int | None:
        """Where the value that `before` put into the register can still be had: another register, or REPLACED for a
        slot of the stack; None if nowhere."""
        if before is None or before.mnemonic != "mov":
            return None
        to, source = before.operands
        if to.type != self._register or before.reg_name(to.reg) != base:
            return None
        if source.type == self._register:
            name = before.reg_name(source.reg)
            return NUMBER.get(name) if name not in changed and name not in STACK else None
        slot = source.type == self._memory and not source.mem.index and not source.mem.segment
        name = before.reg_name(source.mem.base) if slot and source.mem.base else ""
        return REPLACED if name in STACK and name not in changed else None


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
