"""Which modules a function loads when it runs: those are within its reach."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType

_IMPORT_NAME = dis.opmap["IMPORT_NAME"]


def imports(code: CodeType, package: str | None) -> Iterator[str]:
    """The names of the modules that an import statement in `code` may load, those of a `from` included."""
    if _IMPORT_NAME not in code.co_code[::2]:
        return
    instructions = [i for i in dis.get_instructions(code) if i.opname != "EXTENDED_ARG"]
    module = ""
    for position, instruction in enumerate(instructions):
        if instruction.opname == "IMPORT_NAME":
            level = instructions[position - 2].argval  # how many dots: pushed first, then what is imported from it
            module = instruction.argval
            if level:
                parts = (package or "").split(".")
                base = parts[: len(parts) - level + 1]
                module = ".".join([*base, module] if module else base)
            names = module.split(".")
            yield from (".".join(names[:count]) for count in range(1, len(names) + 1))
        elif instruction.opname == "IMPORT_FROM":
            yield f"{module}.{instruction.argval}"
