"""The study's page: one file, charts inside, nothing from the network."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from typing import Any

from gilprobe.errors import GilprobeError
from gilprobe.loader.study.matrix import SIZES, STEPS

_COLORS = {"threads": "#0072b2", "fork": "#d55e00", "forkserver": "#999999"}
_CODECS = {"pillow": "Pillow", "nvimagecodec": "nvImageCodec, CPU"}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Pillow and nvImageCodec: threads or processes</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
svg {{ max-width: 100%; height: auto }} table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
td, th {{ padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd }} td.t, th.t {{ text-align: left }}
.behind {{ color: #b03000 }} .ahead {{ color: #006020 }} .note {{ color: #555 }}
</style></head><body>
<h1>Pillow and nvImageCodec: threads or processes</h1>
<p>A torch DataLoader over JPEG pictures in memory, its workers threads of one process or processes of their own.
Medians with their whole range. One internal thread everywhere, one decoder a worker, persistent workers.</p>
<h2>Verdict</h2>{verdict}{notes}
<h2>Throughput by workers</h2>{throughput}
<h2>Threads over forked processes, by codec</h2>{ratios}
<p class="note">Above 1 threads are faster. Bars are medians of the rounds, whiskers the whole range.</p>
<h2>What each step adds</h2>{steps}
<p class="note">Wall time an image at two workers: decoding alone, what collating adds, what handing the batch to the consumer adds.
A step measured on a busy machine can come out below zero: the range of the throughput says how far to trust it.</p>
<h2>What the slower side lost</h2>{waterfall}
<p class="note">gilprobe's own profile of the slower side (by the median): what an image takes a worker with one worker,
what each class adds with all of them, what it takes then. Waiting for the consumer is not in it.</p>
<h2>Every ratio</h2>{ratio_table}
<h2>Every row</h2>{table}
<h2>How it was made</h2>
<p><code>{command}</code></p><p>{environment}</p>
<p>Largest difference of decoded pixels from Pillow's: {pixels}. Measurements that failed: {failures}.</p>
{scaling}
</body></html>
"""


def page(summary: dict[str, Any]) -> str:
    """HTML. Raises GilprobeError where matplotlib is missing."""
    environment = summary["environment"]
    return _PAGE.format(
        verdict="".join(f"<p>{html.escape(text)}</p>" for text in summary["verdict"]) or "<p>Not measured.</p>",
        notes="".join(f"<p class=note>{html.escape(text)}</p>" for text in summary.get("notes", ())),
        throughput=_throughput(summary["rows"]),
        ratios=_ratios(summary["ratios"]),
        steps=_steps(summary["steps"]),
        waterfall=_waterfall(summary["explanations"]),
        ratio_table=_ratio_table(summary["ratios"]),
        table=_table(summary["rows"]),
        command=html.escape(summary["command"]),
        environment=html.escape(
            f"{environment['cores']} cores, {environment['system']}; {'; '.join(environment['builds'])}"
            f"{_load(environment.get('load_average'))}."
        ),
        pixels=summary["pixels_differ_max"],
        failures=len(summary["failures"]),
        scaling=scaling(summary["scaling"], environment["cores"]),
    )


def _plots(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    try:
        import matplotlib
    except ImportError as error:
        raise GilprobeError("the study's page needs matplotlib", "pip install matplotlib") from error
    matplotlib.use("svg")
    # Without these every run writes other ids and a date.
    matplotlib.rcParams.update({"svg.hashsalt": "gilprobe", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    return pyplot.subplots(rows, columns, figsize=(width, height), squeeze=False, layout="constrained")


def _svg(figure: Any) -> str:
    from matplotlib import pyplot

    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return re.sub(r"^.*?(?=<svg)", "", file.getvalue(), flags=re.S)


def _throughput(rows: Sequence[dict[str, Any]]) -> str:
    chosen = [r for r in rows if tuple(r["size"]) == SIZES[0] and r["step"] == STEPS[-1] and r["batch"] == 32]
    builds = list(dict.fromkeys(row["build"] for row in chosen))
    if not builds:
        return ""
    figure, axes = _plots(2, len(builds), 4 * len(builds), 6)
    for across, build in enumerate(builds):
        for down, codec in enumerate(_CODECS):
            axis = axes[down][across]
            for method, color in _COLORS.items():
                line = [r for r in chosen if (r["build"], r["codec"], r["method"]) == (build, codec, method)]
                if line:
                    middle = [r["images_per_s"]["median"] for r in line]
                    low = [r["images_per_s"]["median"] - r["images_per_s"]["range"][0] for r in line]
                    high = [r["images_per_s"]["range"][1] - r["images_per_s"]["median"] for r in line]
                    workers = [r["workers"] for r in line]
                    axis.errorbar(workers, middle, [low, high], color=color, marker="o", capsize=3, label=method)
            axis.set(title=f"{build}\n{_CODECS[codec]}, batch 32", xlabel="workers", ylabel="images/s")
            axis.set_ylim(bottom=0)
            axis.set_xticks(sorted({r["workers"] for r in chosen}))
            axis.legend()
    return _svg(figure)


def _ratios(ratios: Sequence[dict[str, Any]]) -> str:
    chosen = [r for r in ratios if r["against"] == "fork" and r["workers"] == 2 and r["step"] == STEPS[-1]]
    if not chosen:
        return ""
    figure, axes = _plots(1, 1, 9, 0.35 * len(chosen) + 1)
    axis = axes[0][0]
    labels = [f"{r['build']}, {_CODECS[r['codec']]}, {r['size'][0]}x{r['size'][1]}, batch {r['batch']}" for r in chosen]
    middle = [r["median"] for r in chosen]
    spread = [[r["median"] - r["range"][0] for r in chosen], [r["range"][1] - r["median"] for r in chosen]]
    colors = ["#0072b2" if r["codec"] == "pillow" else "#009e73" for r in chosen]
    axis.barh(labels, middle, xerr=spread, color=colors, capsize=3)
    axis.axvline(1, color="black", linewidth=1)
    axis.invert_yaxis()
    axis.set_xlabel("images a second, threads over forked processes, two workers")
    return _svg(figure)


def _steps(steps: Sequence[dict[str, Any]]) -> str:
    if not steps:
        return "<p>The steps were not measured.</p>"
    figure, axes = _plots(1, len(steps), 3.2 * len(steps), 3.2)
    for axis, entry in zip(axes[0], steps, strict=True):
        start = sum(entry["added_us"]["fork"].values())
        top = start
        axis.bar(["fork"], [start], color=_COLORS["fork"])
        for step in STEPS:
            change = entry["difference_us"][step]
            axis.bar([step], [change], bottom=[start], color="#b03000" if change > 0 else "#006020")
            start += change
            top = max(top, start)
        axis.bar(["threads"], [start], color=_COLORS["threads"])
        axis.set(title=f"{entry['build']}\n{_CODECS[entry['codec']]}", ylabel="us an image")
        axis.tick_params(axis="x", rotation=45)
        axis.set_ylim(0, 1.08 * top)
    return _svg(figure)


def _waterfall(explanations: Sequence[dict[str, Any]]) -> str:
    chosen = [e for e in explanations if e.get("waterfall")]
    if not chosen:
        return "<p>Nothing was profiled.</p>"
    down = -(-len(chosen) // 3)
    figure, axes = _plots(down, min(3, len(chosen)), 4 * min(3, len(chosen)), 3.4 * down)
    for axis in axes.flat[len(chosen) :]:
        axis.set_visible(False)
    for axis, found in zip(axes.flat, chosen, strict=False):
        start = top = sum(step["one_worker_us"] for step in found["waterfall"])
        axis.bar(["one worker"], [start], color="#999999")
        for step in found["waterfall"][:5]:
            change = step["us"] - step["one_worker_us"]
            axis.bar([step["name"]], [change], bottom=[start], color="#b03000" if change > 0 else "#006020")
            start += change
            top = max(top, start)
        total = sum(step["us"] for step in found["waterfall"])
        axis.bar([f"{found['workers']} workers"], [total], color=_COLORS[found["method"]])
        size = "" if tuple(found["size"]) == SIZES[0] else f", {found['size'][0]}x{found['size'][1]}"
        title = f"{found['build']}\n{_CODECS[found['codec']]}, {found['method']}, batch {found['batch']}{size}"
        axis.set(title=title, ylabel="us an image")
        axis.tick_params(axis="x", rotation=45)
        axis.set_ylim(0, 1.08 * max(top, total))
    return _svg(figure)


def _ratio_table(ratios: Sequence[dict[str, Any]]) -> str:
    head = "<tr><th class=t>build<th class=t>codec<th class=t>against<th>workers<th>batch<th>size<th class=t>step<th>ratio<th>range<th>rounds<th class=t>threads are</tr>"
    body = "".join(
        f"<tr><td class=t>{html.escape(r['build'])}<td class=t>{_CODECS[r['codec']]}<td class=t>{r['against']}<td>{r['workers']}"
        f"<td>{r['batch']}<td>{r['size'][0]}x{r['size'][1]}<td class=t>{r['step']}<td>{r['median']:.2f}"
        f"<td>{r['range'][0]:.2f}-{r['range'][1]:.2f}<td>{r['rounds']}<td class='t {r['outcome']}'>{r['outcome']}</tr>"
        for r in ratios
    )
    return f"<table>{head}{body}</table>"


_COLUMNS = {
    "construction_s": "construction s",
    "first_batch_s": "first batch s",
    "cpu_ms_per_image": "CPU ms/image",
    "page_faults_per_image": "faults/image",
    "switches_per_image": "switches/image",
    "pss_mb": "PSS MB",
    "rss_mb": "RSS MB",
}


def _table(rows: Sequence[dict[str, Any]]) -> str:
    head = "<tr><th class=t>build<th class=t>codec<th class=t>method<th>workers<th>batch<th>size<th class=t>step<th>images/s<th>range<th>"
    head += "<th>".join(_COLUMNS.values()) + "</tr>"
    body = ""
    for r in rows:
        speed = r["images_per_s"]
        body += (
            f"<tr><td class=t>{html.escape(r['build'])}<td class=t>{_CODECS[r['codec']]}<td class=t>{r['method']}<td>{r['workers']}"
            f"<td>{r['batch']}<td>{r['size'][0]}x{r['size'][1]}<td class=t>{r['step']}<td>{speed['median']:.0f}"
            f"<td>{speed['range'][0]:.0f}-{speed['range'][1]:.0f}<td>"
        )
        body += "<td>".join(f"{r[name]:.3g}" for name in _COLUMNS) + "</tr>"
    return f"<table>{head}{body}</table>"


def _load(load: dict[str, float] | None) -> str:
    return f"; load average {load['median']:.1f} ({load['least']:.1f}-{load['most']:.1f})" if load else ""


def scaling(fits: Sequence[dict[str, Any]], cores: int) -> str:
    head = "<h2>Scaling, estimated</h2>"
    if not fits:
        return f"{head}<p>The Universal Scalability Law is fitted from four worker counts on; fewer were measured.</p>"
    measured = max(workers for f in fits for workers in f["workers"])
    text = f"The Universal Scalability Law, fitted to {measured} workers at most, its terms' intervals in brackets."
    if measured > cores:
        text += (
            f" This machine has {cores} cores: from {cores + 1} workers on they wait for a core, which the fit cannot "
            "tell from contention. Its terms are too high, and nothing is said of more cores: measure on a machine "
            "with a core for each worker."
        )
    else:
        text += " What lies beyond these is an estimate by extension."
    items = "".join(f"<li>{html.escape(_fit(f))}" for f in fits)
    return f"{head}<p class=note>{text}</p><ul>{items}</ul>"


def _fit(f: dict[str, Any]) -> str:
    peak, estimates = f["peak_workers_estimate"], f["images_per_s_estimate"]
    beyond = (
        (f"fastest with about {max(1.0, peak):.0f} workers" if peak is not None else "no number of workers too many")
        + "; images a second: "
        + ", ".join(f"{cores} cores {speed:.0f}" for cores, speed in estimates.items())
    )
    return (
        f"{f['build']}, {_CODECS[f['codec']]}, {f['method']}, batch {f['batch']}: contention {f['contention']:.3f} "
        f"({f['contention_interval'][0]:.3f}-{f['contention_interval'][1]:.3f}), coherency {f['coherency']:.4f} "
        f"({f['coherency_interval'][0]:.4f}-{f['coherency_interval'][1]:.4f})" + (f"; {beyond}" if estimates else "")
    )
