"""schema.py says what format.h says: a C program prints every size and offset."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gilprobe.recording import cuda_schema, schema

FORMAT_H = Path(__file__).parents[3] / "gilprobe" / "native" / "format.h"

# Structs of arrays: they have no record header.
STRUCTS = schema.STRUCTS | cuda_schema.STRUCTS
ARRAYS = ("EventRecord", "SampleRecord", "SpanEventRecord", "GilHoldRecord")


@pytest.fixture(scope="module")
def c_layout(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    folder = tmp_path_factory.mktemp("layout")
    lines = []
    for struct, dtype in STRUCTS.items():
        lines.append(f'printf("{struct} %zu\\n", sizeof({struct}));')
        for name in dtype.names or ():
            member = f"head.{name}" if name in ("type", "flags", "bytes") and struct.endswith("Record") else name
            if struct in ARRAYS or struct.startswith("Gpu"):
                member = name
            lines.append(f'printf("{struct}.{name} %zu\\n", offsetof({struct}, {member}));')
    source = folder / "layout.c"
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{FORMAT_H}"\nint main(void) {{ {"".join(lines)} }}\n'
    )
    subprocess.run(["gcc", "-o", folder / "layout", source], check=True)
    out = subprocess.run([folder / "layout"], check=True, capture_output=True, text=True).stdout
    return {key: int(value) for key, value in (line.split() for line in out.splitlines())}


@pytest.mark.parametrize("struct", STRUCTS)
def test_struct_has_the_same_layout_in_c_and_python(struct: str, c_layout: dict[str, int]) -> None:
    dtype = STRUCTS[struct]
    assert dtype.fields is not None
    ours = {struct: dtype.itemsize} | {f"{struct}.{name}": field[1] for name, field in dtype.fields.items()}
    assert ours == {key: value for key, value in c_layout.items() if key == struct or key.startswith(struct + ".")}
