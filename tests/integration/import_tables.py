"""What the import tables of this process hold, read without gilprobe: imported by the scripts under test."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

PT_LOAD, PT_DYNAMIC = 1, 2
DT_PLTRELSZ, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_JMPREL = 2, 5, 6, 7, 8, 23
GLOB_DAT, JUMP_SLOT = 6, 7


def mappings() -> list[tuple[int, int, str, str]]:
    """start, end, permissions, path"""
    rows = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        start, _, end = fields[0].partition("-")
        rows.append((int(start, 16), int(end, 16), fields[1], fields[5].strip() if len(fields) > 5 else ""))
    return rows


def import_slots() -> dict[int, tuple[str, str, bytes, str]]:
    """address -> library, symbol, its eight bytes, its page's permissions; of all libraries but gilprobe's own"""
    found = {}
    rows = mappings()
    bases: dict[str, int] = {}
    for start, _, _, path in rows:
        if path.startswith("/") and path not in bases and Path(path).is_file() and "libgilprobe" not in path:
            bases[path] = start
    for path, start in bases.items():
        data = Path(path).read_bytes()
        if data[:4] != b"\x7fELF":
            continue
        for address, symbol in _slots(data, start):
            permissions = next((row[2] for row in rows if row[0] <= address < row[1]), "")
            if permissions.startswith("r"):
                found[address] = path, symbol, ctypes.string_at(address, 8), permissions
    return found


def _slots(data: bytes, start: int) -> list[tuple[int, str]]:
    offset, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQ", data, offset + size * i) for i in range(count)]
    loads = [(s[2], s[3], s[5]) for s in segments if s[0] == PT_LOAD]  # offset, address, bytes

    def at(address: int) -> int:
        return next(o + address - a for o, a, n in loads if a <= address < a + n)

    bias = start - (loads[0][1] & ~4095)
    dynamic = next((s for s in segments if s[0] == PT_DYNAMIC), None)
    if dynamic is None:
        return []
    tags = {}
    for entry in range(dynamic[2], dynamic[2] + dynamic[5], 16):
        tag, value = struct.unpack_from("<QQ", data, entry)
        tags.setdefault(tag, value)
    slots = []
    for table, length in ((DT_JMPREL, DT_PLTRELSZ), (DT_RELA, DT_RELASZ)):
        if table not in tags:
            continue
        for entry in range(at(tags[table]), at(tags[table]) + tags[length], 24):
            address, info = struct.unpack_from("<QQ", data, entry)
            if info & 0xFFFFFFFF in (GLOB_DAT, JUMP_SLOT):
                name = struct.unpack_from("<I", data, at(tags[DT_SYMTAB]) + 24 * (info >> 32))[0]
                text = at(tags[DT_STRTAB]) + name
                slots.append((bias + address, data[text : data.index(b"\0", text)].decode()))
    return slots


def signal_actions() -> dict[int, bytes]:
    """What the kernel does on each signal, but for the sampler's."""
    libc = ctypes.CDLL(None)
    actions = {}
    for number in range(1, 65):
        action = ctypes.create_string_buffer(152)
        if number != 62 and libc.sigaction(number, None, action) == 0:
            raw = action.raw  # handler, mask (of which the kernel has 64 bits), flags
            actions[number] = raw[:16] + raw[136:140]
    return actions
