"""Functions by address, against what pyelftools reads symbol by symbol."""

from __future__ import annotations

import ctypes.util
import shutil
import subprocess
from pathlib import Path

import pytest
from compiled import shared_library

from gilprobe.analysis.native_symbols import Functions
from gilprobe.elf import opened, symbol_table

SOURCE = """
static int inner(int n) { return n ? inner(n - 1) + 1 : 0; }
int planted(int n) { return inner(n); }
int twin(int n) __attribute__((alias("planted")));
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_library(SOURCE, tmp_path_factory.mktemp("library"), optimize=0)


def read_one_by_one(path: Path) -> dict[int, tuple[int, str]]:
    found = {}
    with opened(path) as elf:
        for section in (".dynsym", ".symtab"):
            table = symbol_table(elf, section)
            for symbol in table.iter_symbols() if table else ():
                # GNU's indirect functions have the number that the standard leaves to systems.
                if symbol.entry.st_info.type in ("STT_FUNC", "STT_LOOS") and symbol.entry.st_size:
                    found[symbol.entry.st_value] = (symbol.entry.st_size, symbol.name)
    return found


def test_every_function_of_a_large_library_is_there_under_its_name() -> None:
    name = ctypes.util.find_library("c")
    (path,) = {
        line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(name))
    }
    expected = read_one_by_one(Path(path))
    functions = Functions(Path(path))
    assert len(expected) > 1000
    assert {start: (size, name) for start, size, name in functions} == expected
    for start, (size, name) in expected.items():
        assert functions.name(start) == name
        following = functions.name(start + size)
        assert following != name or start + size in expected


def test_local_functions_have_names_until_they_are_stripped(library: Path, tmp_path: Path) -> None:
    functions = Functions(library)
    places = {name: (start, size) for start, size, name in functions}
    start, size = places["inner"]
    assert functions.name(start + size - 1) == "inner" and functions.name(0) == functions.name(-1) == ""
    assert {"planted", "twin"} & set(places)
    stripped = tmp_path / "stripped.so"
    subprocess.run(["strip", "-o", stripped, library], check=True)
    assert Functions(stripped).name(start) == "" and Functions(stripped).name(places["inner"][0] + size) != "inner"


def test_what_is_no_library_or_only_half_of_one_is_refused(library: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no library")
    with pytest.raises(ValueError):
        Functions(tmp_path / "text")
    whole = library.read_bytes()
    for length in range(0, len(whole), 97):
        half = tmp_path / "half"
        half.write_bytes(whole[:length])
        try:
            dict.fromkeys(Functions(half))
        except (OSError, ValueError):
            continue


def test_a_damaged_table_gives_names_or_is_refused(library: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.so"
    whole = library.read_bytes()
    for at in range(0, len(whole), 61):
        shutil.copy(library, damaged)
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            dict.fromkeys(Functions(damaged))
        except (OSError, ValueError):
            continue
