"""summary.json and README.md of the study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gilprobe.loader.study.gpu_summary import HEADS, table
from gilprobe.render.cuda import REPLAY

NOTES = """Speeds are of untraced runs (median and range of the rounds); `traced` is the speed while recorded over that.
Contexts, changes of owner and gaps between owners are of one traced run. `~` marks an estimate: from the order of
kernels and copies, or from switch records that the known-answer test did not confirm. A gap may be idling for lack of
work, so the share that switching explains is an upper bound. One Decoder and one stream a worker, batch 8, output left
on the device, everything synchronised before the clock stops."""


MOST_CHARACTERS = 300


def failures_of(summary: dict[str, Any]) -> list[str]:
    """One line an error."""
    groups: dict[str, list[str]] = {}
    for failure in summary["failures"]:
        groups.setdefault(failure["error"], []).append(failure["cell"])
    return [
        f"{cells[0]}{f' and {len(cells) - 1} more' if len(cells) > 1 else ''}: {error[-MOST_CHARACTERS:]}"
        for error, cells in groups.items()
    ]


def compared(item: dict[str, Any]) -> str:
    low, high = item["range"]
    return (
        f"{item['build']}, {item['backend']}, {item['workers']} workers: threads / processes {item['ratio']:.2f} "
        f"({low:.2f}-{high:.2f}), {item['outcome']}: {item['verdict']} [{item['evidence']}]"
    )


def print_table(summary: dict[str, Any]) -> None:
    """The table last: the end of a call's output is what is seen of it."""
    rows = [list(HEADS), *table(summary)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEADS))]
    print()
    if summary["replay"]:
        print(REPLAY)
    for line in failures_of(summary):
        print(f"not measured: {line}")
    for item in summary["comparisons"]:
        print(compared(item))
    print(f"switches: {summary['calibration']['verdict']}")
    for name, why in summary["calibration"].get("cupti_refused", {}).items():
        print(f"libcupti ({name}) does not serve here: {why}")
    print()
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def write_page(folder: Path, summary: dict[str, Any]) -> None:
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    environment = ", ".join(f"{key}: {value}" for key, value in summary["environment"].items() if value)
    lines = ["# nvImageCodec on one GPU: threads, processes, processes under MPS", ""]
    lines += [f"**{REPLAY}**", ""] if summary["replay"] else []
    lines += ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    lines += ["| " + " | ".join(row) + " |" for row in table(summary)]
    lines += ["", "## Threads over processes", ""]
    lines += [f"- {compared(item)}" for item in summary["comparisons"]]
    lines += ["", "## Known answer", "", json.dumps(summary["calibration"]), ""]
    if summary["failures"]:
        lines += ["## Not measured", "", *(f"- {line}" for line in failures_of(summary)), ""]
    lines += [NOTES, "", f"Measured on {environment}. Rebuilt by `make gpu-study`.", ""]
    (folder / "README.md").write_text("\n".join(lines))
