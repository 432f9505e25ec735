"""The recorder's own tables under ThreadSanitizer and AddressSanitizer: python -m stress.sanitizers [--only TEXT].

stress/native/tables.c works each table with several threads. Each table has planted twins: the same source with one
order, bound or recheck taken out, which must be reported, or the quiet of the real one proves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stress.bench import ROOT

NATIVE = ROOT / "gilprobe" / "native"
DRIVER = ROOT / "stress" / "native" / "tables.c"
TABLES = ("slots", "file", "edges", "index")
SANITIZERS = ("thread", "address")
RUNS = 20  # of a twin: what depends on the threads' timing may take more than one
LIMIT_S = 60
# The sanitizers' own words for a finding, and the driver's.
REPORTS = ("WARNING: ThreadSanitizer", "ERROR: AddressSanitizer", "TABLES: ")


@dataclass(frozen=True)
class Twin:
    """A defect: `old` in a source, which must stand there exactly once, becomes `new`."""

    name: str
    table: str
    sanitizer: str
    source: str
    old: str
    new: str


TWINS = (
    Twin("a freed slot without its release", "slots", "thread", "slots.c",
         "&free_slots, &head, fresh, memory_order_release, memory_order_relaxed",
         "&free_slots, &head, fresh, memory_order_relaxed, memory_order_relaxed"),
    Twin("a new slot without its release", "slots", "thread", "slots.c",
         "&all_slots, &head, slot, memory_order_release,", "&all_slots, &head, slot, memory_order_relaxed,"),
    Twin("a record's length without its release", "file", "thread", "file.c",
         "/* Release: a reader that sees the length must see the record before it. */\n"
         "    __atomic_store_n(&cursor->chunk->length, cursor->used, __ATOMIC_RELEASE)",
         "__atomic_store_n(&cursor->chunk->length, cursor->used, __ATOMIC_RELAXED)"),
    Twin("a chunk's magic without its release", "file", "thread", "file.c",
         "&chunk->magic, GP_CHUNK_MAGIC, __ATOMIC_RELEASE", "&chunk->magic, GP_CHUNK_MAGIC, __ATOMIC_RELAXED"),
    Twin("an extent without its release", "file", "thread", "file.c",
         "atomic_compare_exchange_strong(&current_extent, &extent, fresh)",
         "atomic_compare_exchange_strong_explicit(&current_extent, &extent, fresh, memory_order_relaxed, "
         "memory_order_relaxed)"),
    Twin("a plain store into a bucket", "edges", "thread", "edges.c",
         "atomic_store_explicit(&bucket->releaser, releaser, memory_order_relaxed)",
         "*(volatile uint64_t *)&bucket->releaser = releaser"),
    Twin("posters that do not take the bucket", "edges", "thread", "edges.c",
         "atomic_compare_exchange_strong_explicit(&bucket->sequence, &sequence, sequence + 1,",
         "taken(&bucket->sequence, &sequence, sequence + 1,"),
    Twin("a post read without the recheck", "edges", "thread", "edges.c",
         "if (atomic_load_explicit(&bucket->sequence, memory_order_relaxed) == before)\n"
         "            return at == (uint64_t)address && *posted_ns >= since_ns",
         "if (before)\n            return at == (uint64_t)address && *posted_ns >= since_ns"),
    Twin("an index without its mask", "index", "address", "index.c", "i & (capacity - 1)", "i & (capacity * 2 - 1)"),
    Twin("an index copied one entry too far", "index", "address", "index.c",
         "for (uint32_t i = 0; i < index->capacity; i++)", "for (uint32_t i = 0; i <= index->capacity; i++)"),
    Twin("a chunk beyond its extent", "file", "address", "file.c", "at + bytes <= extent->bytes",
         "at <= extent->bytes"),
    Twin("records beyond their chunk", "file", "address", "file.c",
         "cursor->chunk && cursor->used + bytes <= cursor->capacity", "cursor->chunk"),
)  # fmt: skip


def missing(sanitizer: str) -> str | None:
    """Why this sanitizer cannot be used here."""
    compiler = shutil.which("gcc")
    if compiler is None:
        return "gcc is not installed"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "empty.c").write_text("int main(void) { return 0; }\n")
        program = str(Path(folder) / "empty")
        command = [compiler, f"-fsanitize={sanitizer}", f"{program}.c", "-o", program]
        if subprocess.run(command, capture_output=True).returncode:
            return f"gcc has no library for -fsanitize={sanitizer}"
        if subprocess.run([program], capture_output=True).returncode:
            return f"programs of -fsanitize={sanitizer} do not run on this kernel"
    return None


def build(folder: Path, sanitizer: str, twin: Twin | None = None) -> Path:
    """The driver's program, over the real sources or the twin's."""
    sources = NATIVE
    if twin is not None:
        sources = folder / "sources"
        shutil.copytree(NATIVE, sources, ignore=shutil.ignore_patterns("*.so"))
        text = (sources / twin.source).read_text()
        assert text.count(twin.old) == 1, f"{twin.source} no longer says {twin.old!r} once: plant {twin.name!r} anew"
        (sources / twin.source).write_text(text.replace(twin.old, twin.new))
    program = folder / f"tables-{sanitizer}"
    command = ["gcc", "-std=gnu11", "-O1", "-g", f"-fsanitize={sanitizer}", "-Wno-tsan", "-I", str(sources),
               str(DRIVER), "-o", str(program), "-lpthread"]  # fmt: skip
    subprocess.run(command, check=True)
    return program


def report(program: Path, table: str) -> str | None:
    """The first line of what a run reports; None where it is quiet."""
    options = {"TSAN_OPTIONS": "halt_on_error=1 report_thread_leaks=0", "ASAN_OPTIONS": "detect_leaks=0"}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([str(program), table, folder], env={**os.environ, **options}, capture_output=True,
                              text=True, timeout=LIMIT_S)  # fmt: skip
    for line in done.stderr.splitlines():
        if any(words in line for words in REPORTS):
            summary = next((x for x in done.stderr.splitlines() if x.startswith("SUMMARY: ")), line)
            return summary.replace(str(ROOT) + "/", "").replace(str(program.parent) + "/", "").strip()
    return None if done.returncode == 0 and "quiet" in done.stdout else f"ended with {done.returncode}: {done.stderr}"


def measure(only: str = "", tables: Sequence[str] = TABLES) -> dict[str, Any]:
    rows: dict[str, Any] = {"tables": {}, "twins": {}, "skipped": {}}
    for sanitizer in SANITIZERS:
        lacking = missing(sanitizer)
        if lacking is not None:
            rows["skipped"][sanitizer] = lacking
            print(f"SKIPPED the tables under -fsanitize={sanitizer}: {lacking}", flush=True)
            continue
        with tempfile.TemporaryDirectory() as folder:
            program = build(Path(folder), sanitizer)
            for table in tables:
                said = report(program, table)
                rows["tables"][f"{table}, {sanitizer}"] = said
                print(f"{'quiet' if said is None else 'LOUD'} {table} under {sanitizer}: {said or ''}", flush=True)
        for twin in TWINS:
            if twin.sanitizer != sanitizer or only not in twin.name or twin.table not in tables:
                continue
            with tempfile.TemporaryDirectory() as folder:
                program = build(Path(folder), sanitizer, twin)
                said = next((line for _ in range(RUNS) if (line := report(program, twin.table)) is not None), None)
            rows["twins"][twin.name] = {"table": twin.table, "sanitizer": sanitizer, "report": said}
            print(f"{'reported' if said else 'MISSED'} twin: {twin.name}: {said or ''}", flush=True)
    return rows


def loud(rows: dict[str, Any]) -> bool:
    return any(rows["tables"].values()) or any(row["report"] is None for row in rows["twins"].values())


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m stress.sanitizers", description=__doc__)
    parser.add_argument("--only", default="", help="twins whose name contains this text")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    options = parser.parse_args(arguments)
    rows = measure(options.only)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    return 1 if loud(rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
