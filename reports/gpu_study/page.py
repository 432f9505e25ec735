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


def write_page(folder: Path, summary: dict[str, Any]) -> None:
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    environment = ", ".join(f"{key}: {value}" for key, value in summary["environment"].items() if value)
    lines = ["# nvImageCodec on one GPU: threads, processes, processes under MPS", ""]
    lines += [f"**{REPLAY}**", ""] if summary["replay"] else []
    lines += ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    lines += ["| " + " | ".join(row) + " |" for row in table(summary)]
    lines += ["", "## Threads over processes", ""]
    for item in summary["comparisons"]:
        low, high = item["range"]
        lines.append(
            f"- {item['build']}, {item['backend']}, {item['workers']} workers: {item['ratio']:.2f} "
            f"({low:.2f}-{high:.2f}), {item['outcome']}; {item['verdict']} [{item['evidence']}]"
        )
    lines += ["", "## Known answer", "", json.dumps(summary["calibration"]), ""]
    if summary["failures"]:
        lines += ["## Not measured", "", *(f"- {f['cell']}: {f['error']}" for f in summary["failures"]), ""]
    lines += [NOTES, "", f"Measured on {environment}. Rebuilt by `make gpu-study`.", ""]
    (folder / "README.md").write_text("\n".join(lines))
