"""Writes reports/stress/README.md from summary.json and campaigns.json: python -m stress.page."""

from __future__ import annotations

import json
from typing import Any

from stress.bench import ROOT

FOLDER = ROOT / "reports" / "stress"
INTRODUCTION = """# The explorer and the stress suite, measured

Rebuild: `python -m stress.bench` (explorer; one interpreter a run), `python -m stress` (campaigns),
`python -m stress mutants`, `python -m stress sanitizers`, `python -m stress rivals`, `python -m stress.page` (this
page). Figures are CPU seconds of the whole process on a shared, noisy machine. "least":
shrunk to the known least preemptions. The corpus lies in `stress/corpus/`; its `unseen` part was written after the
explorer and not used to tune it, but by the same author.
"""


def table(head: list[str], rows: list[list[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]) + "\n"


def main() -> None:
    summary = json.loads((FOLDER / "summary.json").read_text())
    parts = [INTRODUCTION]
    for build, found in summary.items():
        parts.append(f"## CPython {build} ({found['system']}, {found['machine']})\n")
        rows = []
        for group in ("classic", "harder", "unseen"):
            for name, row in found[group].items():
                seeds = row["seeds"]
                rows.append([group, name, f"{row['found']}/{seeds}", f"{row['least_preemptions']}/{seeds}",
                             row["cpu_s_median"], row["cpu_s_p95"]])  # fmt: skip
        for name, row in found["check"].items():
            rows.append(["check()", name, f"{row['found']}/{row['seeds']}", f"{row['least']}/{row['seeds']}", "",
                         row["cpu_s_p95"]])  # fmt: skip
        parts.append(table(["group", "bug", "found", "least", "median, CPU s", "p95, CPU s"], rows))
        speed, twins, lin, replay = (found[k] for k in ("schedules", "twins", "linearizability", "replay"))
        parts.append(
            f"- {speed['schedules_per_cpu_s']} schedules a CPU second (locked cache, {speed['points_mean']} change "
            f"points and {speed['switches_mean']} switches a schedule)\n"
            f"- fixed twins: {twins['failures']} failures in {twins['schedules']} schedules\n"
            f"- replay in a fresh process: {replay['reproduced']} of {replay['processes']}\n"
            f"- a blocking call that is not modelled: {found['uncontrolled']['verdict']} after "
            f"{found['uncontrolled']['wall_s']} s\n"
            f"- linearizability: {lin['disagreements']} disagreements with every order in {lin['histories']} "
            f"histories; 2,000 operations, partitioned: {lin['long_history_ms']} ms\n"
        )
    campaigns = FOLDER / "campaigns.json"
    if campaigns.exists():
        parts.append("## Campaigns\n")
        rows = []
        for build, each in json.loads(campaigns.read_text()).items():
            for name, row in each.items():
                if "skipped" in row:
                    rows.append([build, name, row["skipped"], "", ""])
                else:
                    subject, planted = row["subject"], row["planted"]
                    twin = f"{planted['verdict']} ({planted['oracle']})"
                    rows.append([build, name, subject["verdict"], subject["runs"], twin])
        parts.append(table(["CPython", "subject", "verdict", "schedules or calls", "planted twin"], rows))
    parts += [*_mutants(), *_sanitizers(), *_rivals()]
    (FOLDER / "README.md").write_text("\n".join(parts))


def _read(name: str) -> Any:
    path = FOLDER / name
    return json.loads(path.read_text()) if path.exists() else None


def _mutants() -> list[str]:
    found = _read("mutants.json")
    parts = []
    for build, each in (found or {}).items():
        parts.append(f"## Mutants of the loader, CPython {build}\n")
        survivors = [row["mutant"] for row in each["mutants"] if not row["killed"]]
        lines = [
            f"One lock, notify or recheck removed at a time: **{each['killed']} of {each['total']} killed** "
            f"(bar: 90 %). The unchanged loader passes {each['unchanged_schedules']} schedules. The scenarios were "
            "extended after earlier runs had shown which mutants survive, so this is no measure of mutants never seen. "
            f"With the {len(each['equivalent'])} that were judged equivalent by hand counted as survivors it would be "
            f"{each['killed']} of {each['total'] + len(each['equivalent'])}.\n",
            *(f"- survived: `{text}`" for text in survivors),
            *(f"- equivalent, not counted: `{text}` ({why})" for text, why in each["equivalent"].items()),
        ]
        parts.append("\n".join(lines) + "\n")
    return parts


def _sanitizers() -> list[str]:
    found = _read("sanitizers.json")
    if found is None:
        return []
    rows = [[name, said or "quiet"] for name, said in found["tables"].items()]
    twins = [
        [name, row["table"], row["sanitizer"], "reported" if row["report"] else "MISSED"]
        for name, row in found["twins"].items()
    ]
    skipped = "".join(f"\n- not run, -fsanitize={name}: {why}\n" for name, why in found["skipped"].items())
    return [
        "## The recorder's own tables under sanitizers\n",
        table(["table, sanitizer", "the real source"], rows) + skipped,
        table(["planted twin", "table", "sanitizer", "the twin"], twins),
    ]


def _rivals() -> list[str]:
    found = _read("rivals.json")
    if found is None:
        return []
    tools = ["gilprobe", *found["versions"]]
    rows = [[name, *(row[t]["said"] if t in row else "not there" for t in tools)]
            for name, row in found["cases"].items()]  # fmt: skip
    return [
        f"## Beside interleave-test and frontrun, CPython {found['python']}\n",
        f"The same corpus, {found['budget_s']:.0f} s a case, each tool's default search, one run. The corpus is "
        "gilprobe's own.\n",
        "\n".join(f"- {line}" for line in [*found["lacking"].values(), *found["summary"]]) + "\n",
        table(["case", *(f"{t} {found['versions'].get(t, '')}".strip() for t in tools)], rows),
    ]


if __name__ == "__main__":
    main()
