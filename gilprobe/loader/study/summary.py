"""From answers to medians, ratios and a verdict in words."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from gilprobe.loader.study import usl
from gilprobe.loader.study.matrix import SIZES, STEPS, Build, Cell

Answers = Mapping[tuple[str, int], dict[str, Any]]
SCHEMA = 1
_ESTIMATED_CORES = (16, 64, 96)


@dataclass(frozen=True)
class Ratio:
    """Threads over one kind of process, in images a second, one value a round. `outcome` looks at the whole range."""

    build: str
    codec: str
    against: str
    workers: int
    batch: int
    size: tuple[int, int]
    step: str
    values: tuple[float, ...]

    @property
    def outcome(self) -> str:
        if len(self.values) < 2:
            return "undecided"
        return "ahead" if min(self.values) > 1 else "behind" if max(self.values) < 1 else "undecided"


def summarize(
    builds: Sequence[Build],
    matrix: Sequence[Cell],
    answers: Answers,
    command: str,
    explain: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda _: [],
) -> dict[str, Any]:
    """The committed summary.json: environment, a row a cell, the ratios, the steps of the loss, the verdict.

    explain: from the ratios (as in the summary) to what gilprobe's profile of each losing side says (cause.py).
    """
    rows = [row for cell in matrix if (row := _row(cell, answers)) is not None]
    ratios = _ratios(matrix, answers)
    steps = _steps(rows)
    written = [
        {
            **{name: getattr(r, name) for name in ("build", "codec", "against", "workers", "batch", "size", "step")},
            "median": median(r.values),
            "range": [min(r.values), max(r.values)],
            "rounds": len(r.values),
            "outcome": r.outcome,
        }
        for r in ratios
    ]
    explanations = explain(written)
    loads = _loads(answers)
    return {
        "schema": SCHEMA,
        "command": command,
        "environment": {
            "builds": [build.label for build in builds],
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "internal_threads": 1,
            "load_average": loads,
        },
        "notes": _notes(loads),
        "rows": rows,
        "ratios": written,
        "explanations": explanations,
        "steps": steps,
        "scaling": _scaling(rows, answers),
        "failures": [
            {"cell": key, "round": number, "error": answer["error"]}
            for (key, number), answer in answers.items()
            if "error" in answer
        ],
        "pixels_differ_max": max((a["pixels_differ"] for a in answers.values() if "pixels_differ" in a), default=None),
        "verdict": verdict(ratios, steps, rows, explanations),
    }


def _loads(answers: Answers) -> dict[str, float] | None:
    """Of the whole machine, this study's own processes included, after each measurement."""
    seen = sorted(answer["load_average"] for answer in answers.values() if "load_average" in answer)
    return {"least": seen[0], "median": median(seen), "most": seen[-1]} if seen else None


def _notes(loads: dict[str, float] | None) -> list[str]:
    cores = os.cpu_count() or 1
    if loads is None or loads["median"] <= cores + 1:
        return []
    return [
        f"The machine was busy: load average {loads['median']:.1f} ({loads['least']:.1f}-{loads['most']:.1f}) on "
        f"{cores} cores. Trust CPU an image and the ranges, not the medians of images a second."
    ]


def verdict(
    ratios: Sequence[Ratio],
    steps: Sequence[dict[str, Any]],
    rows: Sequence[dict[str, Any]],
    explanations: Sequence[dict[str, Any]] = (),
) -> list[str]:
    """One paragraph a build, codec and batch at the largest size, and one where threads are behind at another: who was
    faster, in what range, where the time went, what the kernel counted."""
    said = []
    for ratio in ratios:
        if (ratio.against, ratio.step, ratio.workers) != ("fork", STEPS[-1], 2):
            continue
        if ratio.size != SIZES[0] and ratio.outcome != "behind":
            continue
        how = {"ahead": "are ahead of", "behind": "are behind", "undecided": "cannot be told from"}[ratio.outcome]
        text = (
            f"{ratio.build}, {_name(ratio.codec)}, {_size(ratio)}batch {ratio.batch}, {ratio.workers} workers: threads "
            f"{how} forked processes, {median(ratio.values):.2f}x ({min(ratio.values):.2f}-{max(ratio.values):.2f}, "
            f"{len(ratio.values)} rounds)."
        )
        text += _where(ratio, steps) + _counted(ratio, rows) + _explained(ratio, explanations)
        said.append(text)
    return [*said, *_beside_the_original(ratios)]


def _beside_the_original(ratios: Sequence[Ratio]) -> list[str]:
    """The experiment that this one repeats: Quansight and NVIDIA, "Improved Data Loading with Threads"."""
    chosen = [r for r in ratios if (r.against, r.size, r.step, r.workers) == ("fork", SIZES[0], STEPS[-1], 2)]
    if not chosen:
        return []
    found = "; ".join(f"{_name(r.codec)}, {r.build}, batch {r.batch}: {r.outcome}" for r in chosen)
    same = all(r.outcome == ("behind" if r.codec == "pillow" else "ahead") for r in chosen)
    return [
        "The original experiment (batch 512, many cores, GPU decoding) found threads slightly behind for Pillow and "
        "clearly "
        f"ahead for nvImageCodec. Threads here are: {found}. "
        + ("The direction is the same." if same else "The direction is not reproduced on this machine.")
    ]


def _where(ratio: Ratio, steps: Sequence[dict[str, Any]]) -> str:
    for entry in steps:
        here = (entry["build"], entry["codec"], entry["batch"]) == (ratio.build, ratio.codec, ratio.batch)
        if here and ratio.size == SIZES[0]:
            parts = ", ".join(f"{step} {entry['difference_us'][step]:+.0f}" for step in STEPS)
            return f" Threads minus processes in us of wall time an image, by step: {parts}."
    return ""


def _counted(ratio: Ratio, rows: Sequence[dict[str, Any]]) -> str:
    found = {
        row["method"]: row
        for row in rows
        if (row["build"], row["codec"], row["batch"], row["workers"], row["step"], tuple(row["size"]))
        == (ratio.build, ratio.codec, ratio.batch, ratio.workers, ratio.step, ratio.size)
    }
    if not {"threads", "fork"} <= found.keys():
        return ""
    threads, fork = found["threads"], found["fork"]
    return (
        f" CPU an image {threads['cpu_ms_per_image']:.2f} ms against {fork['cpu_ms_per_image']:.2f} ms, page faults "
        f"{threads['page_faults_per_image']:.0f} against {fork['page_faults_per_image']:.0f}, context switches "
        f"{threads['switches_per_image']:.1f} against {fork['switches_per_image']:.1f}."
    )


def _explained(ratio: Ratio, explanations: Sequence[dict[str, Any]]) -> str:
    """What gilprobe's own profile of the slower side says, with its evidence."""
    place = (ratio.build, ratio.codec, ratio.workers, ratio.batch, ratio.size)
    by_place = {(e["build"], e["codec"], e["workers"], e["batch"], tuple(e["size"])): e for e in explanations}
    found = by_place.get(place)
    if found is None:
        return ""
    side = "the threads" if found["method"] == "threads" else "the processes"
    if "error" in found:
        return f" The profile of {side} could not be made: {found['error']}."
    grown = [(step["name"], step["us"] - step["one_worker_us"]) for step in found["waterfall"]]
    grown = [(name, change) for name, change in grown if change >= _LEAST_US][:3]
    text = f" gilprobe's profile of {side}, the slower side by the median: an image takes a worker "
    if grown:
        text += ", ".join(f"{change:.0f} us more {_CLASSES.get(name, name)}" for name, change in grown)
        text += f" than with one worker{_in_all(found)}."
    else:
        text += f"no longer than with one worker, in any class by {_LEAST_US} us{_in_all(found)}."
    if found["causes"]:
        said = "; ".join(
            f"{c['share']:.1%} of the work {_CLASSES.get(c['kind'], c['kind'])} in the {c['part']}"
            + (f" ({c['name']})" if c["name"] else "")
            + f", {c['evidence']}"
            for c in found["causes"]
        )
        return f"{text} Its ranked causes: {said}."
    if found["findings"]:
        first = found["findings"][0]
        return f"{text} Its first finding: {first['title']} ({first['share']:.1%}, {first['evidence']})."
    return text


_LEAST_US = 5
_CLASSES = {"cpu": "CPU", "ready": "waiting for a core", "gil": "waiting for the GIL", "lock": "waiting for a lock"}


def _in_all(found: dict[str, Any]) -> str:
    here, alone = (sum(step[name] for step in found["waterfall"]) for name in ("us", "one_worker_us"))
    return f" ({alone:.0f} to {here:.0f} us)"


def _row(cell: Cell, answers: Answers) -> dict[str, Any] | None:
    found = [answer for (key, _), answer in sorted(answers.items()) if key == cell.key and "error" not in answer]
    if not found:
        return None
    speeds = [speed for answer in found for speed in answer["images_per_s"]]
    row: dict[str, Any] = {**cell.as_json(), "size": list(cell.size), "rounds": len(found)}
    row["images_per_s"] = {"median": median(speeds), "range": [min(speeds), max(speeds)]}
    for name in found[0]:
        if name not in ("images_per_s", "gil_enabled", "pixels_differ", "load_average"):
            row[name] = median(answer[name] for answer in found)
    row["switches_per_image"] = row["voluntary_switches_per_image"] + row["involuntary_switches_per_image"]
    return row


def _ratios(matrix: Sequence[Cell], answers: Answers) -> list[Ratio]:
    speeds = {place: median(answer["images_per_s"]) for place, answer in answers.items() if "error" not in answer}
    rounds = sorted({number for _, number in speeds})
    found = []
    for cell in matrix:
        if cell.method == "threads":
            continue
        twin = cell.key.replace(f"|{cell.method}|", "|threads|")
        values = tuple(
            speeds[twin, number] / speeds[cell.key, number]
            for number in rounds
            if (twin, number) in speeds and (cell.key, number) in speeds
        )
        if values:
            shape = (cell.workers, cell.batch, cell.size, cell.step)
            found.append(Ratio(cell.build, cell.codec, cell.method, *shape, values))
    return found


def _steps(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Wall microseconds an image that each step adds, at two workers and the largest size, threads against fork."""
    wall: dict[tuple[str, str, int], dict[str, dict[str, float]]] = {}
    for row in rows:
        if row["workers"] == 2 and tuple(row["size"]) == SIZES[0] and row["method"] in ("threads", "fork"):
            place = wall.setdefault((row["build"], row["codec"], row["batch"]), {"threads": {}, "fork": {}})
            place[row["method"]][row["step"]] = 1e6 / row["images_per_s"]["median"]
    found = []
    for (build, codec, batch), methods in wall.items():
        if all(set(STEPS) <= set(times) for times in methods.values()):
            added = {method: _added(times) for method, times in methods.items()}
            difference = {step: added["threads"][step] - added["fork"][step] for step in STEPS}
            found.append(
                {"build": build, "codec": codec, "batch": batch, "added_us": added, "difference_us": difference}
            )
    return found


def _added(times: Mapping[str, float]) -> dict[str, float]:
    totals = [times[step] for step in STEPS]
    return {step: total - before for step, total, before in zip(STEPS, totals, [0.0, *totals], strict=False)}


def _scaling(rows: Sequence[dict[str, Any]], answers: Answers) -> list[dict[str, Any]]:
    """Fits of the Universal Scalability Law. Figures for more cores than were used are estimates; none where some of
    the workers had to share a core, which the fit cannot tell from contention.
    """
    groups: dict[tuple[str, str, str, int], dict[int, list[float]]] = {}
    for row in rows:
        if row["step"] == STEPS[-1] and tuple(row["size"]) == SIZES[0]:
            cell = Cell(**{**{n: row[n] for n in Cell.__dataclass_fields__}, "size": tuple(row["size"])})
            speeds = [s for (key, _), a in answers.items() if key == cell.key for s in a.get("images_per_s", ())]
            groups.setdefault((row["build"], row["codec"], row["method"], row["batch"]), {})[row["workers"]] = speeds
    found = []
    for (build, codec, method, batch), samples in groups.items():
        fitted = usl.fit(samples)
        if fitted is not None:
            shared = max(samples) > (os.cpu_count() or 1)
            estimates = {} if shared else {str(cores): fitted.throughput(cores) for cores in _ESTIMATED_CORES}
            found.append(
                {
                    "build": build,
                    "codec": codec,
                    "method": method,
                    "batch": batch,
                    "contention": fitted.contention,
                    "contention_interval": fitted.contention_interval,
                    "coherency": fitted.coherency,
                    "coherency_interval": fitted.coherency_interval,
                    "peak_workers_estimate": None if shared else fitted.peak_workers,
                    "workers": sorted(samples),
                    "images_per_s_estimate": estimates,
                }
            )
    return found


def _size(ratio: Ratio) -> str:
    return "" if ratio.size == SIZES[0] else f"{ratio.size[0]}x{ratio.size[1]}, "


def _name(codec: str) -> str:
    return {"pillow": "Pillow", "nvimagecodec": "nvImageCodec on the CPU"}[codec]
