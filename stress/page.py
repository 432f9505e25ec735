"""Writes the page from the summary: python -m stress.page (python -m stress does it at its end)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stress.bars import Rows, bars
from stress.bench import ROOT

FOLDER = ROOT / "reports" / "stress"
INTRODUCTION = """# The explorer and the stress suite, measured

Rebuild: `make stress` (`python -m stress`; `--only PART` for one part, `--short` to see that it works). A suite that
was stopped goes on where it was. Figures are CPU seconds of the whole process, two parts at a time on two cores.
"least": shrunk to the known least preemptions. The corpus lies in `stress/corpus/`; `unseen` was written after the
explorer and not used to tune it, but by the same author; `foreign` by someone who has not read it.
"""
NAMES = ("3.11", "3.13", "3.13t")


def table(head: list[str], rows: list[list[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]) + "\n"


def write(folder: Path, rows: Rows) -> list[str]:
    """The page; returns the bars that are missed."""
    found = bars(rows)
    said = {True: "reached", False: "**missed**", None: "not measured"}
    parts = [INTRODUCTION, *_short(rows), "## The bars\n",
             table(["what", "CPython", "bar", "measured", ""],
                   [[b.what, b.where, b.bar, b.measured, said[b.reached]] for b in found])]  # fmt: skip
    parts += [
        *_bugs(rows),
        *_foreign(folder, rows),
        *_campaigns(rows),
        *_mutants(rows),
        *_sanitizers(rows),
        *_rivals(rows),
    ]
    (folder / "README.md").write_text("\n".join(parts))
    return [f"{b.what} on {b.where}: {b.measured} (bar: {b.bar})" for b in found if b.reached is False]


def _short(rows: Rows) -> list[str]:
    short = sorted({part for part, each in rows.items() for row in each.values() if row.get("short")})
    failed = [f"- {part} on {name}: {row['failed']}" for part, each in rows.items() for name, row in each.items()
              if "failed" in row]  # fmt: skip
    parts = [f"Measured with few seeds (`--short`), so no bar counts there: {', '.join(short)}.\n"] if short else []
    return [*parts, "Not measured, it ended with an error:\n\n" + "\n".join(failed) + "\n"] if failed else parts


def _bugs(rows: Rows) -> list[str]:
    parts = []
    for name in NAMES:
        lines = []
        version = ""
        for group in ("classic", "harder", "unseen", "check"):
            row = rows.get(group, {}).get(name)
            if row is None or "cases" not in row:
                continue
            version = row["python"]
            for case, one in row["cases"].items():
                least = one["least"] if group == "check" else one["least_preemptions"]
                lines.append([group, case, f"{one['found']}/{one['seeds']}", f"{least}/{one['seeds']}",
                              one["cpu_s_median"], one["cpu_s_p95"]])  # fmt: skip
        if lines:
            head = ["group", "bug", "found", "least", "median, CPU s", "p95, CPU s"]
            parts += [f"## Planted bugs, CPython {version}\n", table(head, lines)]
    return parts


def _foreign(folder: Path, rows: Rows) -> list[str]:
    parts = []
    first = folder / "foreign-first.json"
    told: list[tuple[str, Any]] = [("as measured now", rows.get("foreign", {}))]
    if first.exists():
        told.insert(0, ("the first run, before anybody had looked at them", json.loads(first.read_text())))
    for title, each in told:
        measured = {name: row for name, row in each.items() if row.get("cases")}
        if not measured:
            continue
        head = ["case", "", *(f"{name}: failed" for name in measured), *(f"{name}: p95, CPU s" for name in measured)]
        lines = []
        for case in sorted({case for row in measured.values() for case in row["cases"]}):
            ones = [row["cases"].get(case) for row in measured.values()]
            bug = next(one["bug"] for one in ones if one)
            lines.append([case, "bug" if bug else "twin", *(f"{o['failed']}/{o['seeds']}" if o else "" for o in ones),
                          *(o["cpu_s_p95"] if o else "" for o in ones)])  # fmt: skip
        parts += [f"## Bugs by another hand: {title}\n", table(head, lines)]
    return parts


def _campaigns(rows: Rows) -> list[str]:
    lines = []
    for row in [*rows.get("campaigns", {}).values(), *rows.get("loader", {}).values()]:
        for name, one in row.get("campaigns", {}).items():
            if "skipped" in one:
                lines.append([row["python"], name, one["skipped"], "", ""])
            else:
                subject, planted = one["subject"], one["planted"]
                twin = f"{planted['verdict']} ({planted['oracle']})"
                lines.append([row["python"], name, subject["verdict"], subject["runs"], twin])
    if not lines:
        return []
    return ["## Campaigns\n", table(["CPython", "subject", "verdict", "schedules or calls", "planted twin"], lines)]


def _mutants(rows: Rows) -> list[str]:
    parts = []
    for row in rows.get("mutants", {}).values():
        if "mutants" not in row:
            continue
        survivors = [one["mutant"] for one in row["mutants"] if not one["killed"]]
        lines = [
            f"One lock, notify or recheck removed at a time: **{row['killed']} of {row['total']} killed** "
            f"(bar: 90 %). The unchanged loader passes {row['unchanged_schedules']} schedules. The scenarios were "
            "extended after earlier runs had shown which mutants survive, so this is no measure of mutants never seen. "
            f"With the {len(row['equivalent'])} that were judged equivalent by hand counted as survivors it would be "
            f"{row['killed']} of {row['total'] + len(row['equivalent'])}.\n",
            *(f"- survived: `{text}`" for text in survivors),
            *(f"- equivalent, not counted: `{text}` ({why})" for text, why in row["equivalent"].items()),
        ]
        parts += [f"## Mutants of the loader, CPython {row['python']}\n", "\n".join(lines) + "\n"]
    return parts


def _sanitizers(rows: Rows) -> list[str]:
    row = next((r for r in rows.get("sanitizers", {}).values() if "tables" in r), None)
    if row is None:
        return []
    lines = [[name, said or "quiet"] for name, said in row["tables"].items()]
    twins = [
        [name, one["table"], one["sanitizer"], "reported" if one["report"] else "MISSED"]
        for name, one in row["twins"].items()
    ]
    skipped = "".join(f"\n- not run, -fsanitize={name}: {why}\n" for name, why in row["skipped"].items())
    return [
        "## The recorder's own tables under sanitizers\n",
        table(["table, sanitizer", "the real source"], lines) + skipped,
        table(["planted twin", "table", "sanitizer", "the twin"], twins),
    ]


def _rivals(rows: Rows) -> list[str]:
    row = next((r for r in rows.get("rivals", {}).values() if "versions" in r), None)
    if row is None:
        return []
    tools = ["gilprobe", *row["versions"]]
    lines = [[name, *(one[t]["said"] if t in one else "not there" for t in tools)]
             for name, one in row["cases"].items()]  # fmt: skip
    return [
        f"## Beside interleave-test and frontrun, CPython {row['rivals_python']}\n",
        f"The same corpus, {row['budget_s']:.0f} s a case, each tool's default search, one run. The corpus is "
        "gilprobe's own.\n",
        "\n".join(f"- {line}" for line in [*row["lacking"].values(), *row["summary"]]) + "\n",
        table(["case", *(f"{t} {row['versions'].get(t, '')}".strip() for t in tools)], lines),
    ]


if __name__ == "__main__":
    write(FOLDER, json.loads((FOLDER / "summary.json").read_text()))
