"""The report page: one file, no network, the answer first.

What must be there without a script (the answer, the waterfall, the findings, what was not observed) is written here;
the views with charts are drawn by the modules in web/ from the packed data.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from gilprobe.model import Profile
from gilprobe.render import wording
from gilprobe.render.page_data import LOSSES, clean, packed
from gilprobe.render.proof_words import proof_lines

WEB = Path(__file__).parent / "web"
# In the order of their imports: a module comes after all it imports.
MODULES = (
    "words", "data", "table", "lanes", "gpu", "timeline", "flame", "blocking", "threads", "objects", "orders", "spans",
    "loader", "main",
)  # fmt: skip
MOST_TEXT = 2000
LEAST_STEP = 0.005
NO_META = {"recording": "", "python": "?", "wall_s": 0.0, "cpu_s": 0.0, "rate_hz": 0, "samples": 0, "sampler": "off"}
# The view that shows what a finding of a kind rests on.
EVIDENCE = {
    "gil": "gil", "runnable": "threads", "stolen": "threads", "atomic-stall": "objects", "lock": "objects",
    "object": "objects", "import": "objects", "native": "objects", "stop-the-world": "objects", "permit": "objects",
    "deadlock": "orders",
}  # fmt: skip
NAMES = {"gil": "the GIL", "threads": "the threads", "objects": "locks and objects", "orders": "deadlocks"}
IMPORT = re.compile(r"^import .*\n", re.MULTILINE)
EXPORT = re.compile(r"^export (?=(async )?function|class|const)", re.MULTILINE)


class Html:
    suffix = ".html"

    def __init__(self, before: Profile | None = None) -> None:
        self._before = before

    def render(self, profile: Profile) -> str:
        # autoescape: names of threads, files and locks come from the program that was recorded.
        environment = Environment(
            loader=FileSystemLoader(WEB), autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_printable
        )
        environment.filters.update(
            seconds=wording.seconds, percent=wording.percent, place=wording.place, plain=wording.plain
        )
        return environment.get_template("report.html").render(
            profile=profile,
            meta=NO_META | profile.meta,
            answer=wording.answer(profile),
            waterfall=waterfall(profile),
            evidence=EVIDENCE,
            names=NAMES,
            proof=proof_lines(profile.proof) if profile.proof else (),
            gc_samples=sum(thread.gc_samples for thread in profile.threads),
            gc_share=wording.gc_share(profile),
            missing=clean({item.what: item.why for item in profile.not_observed}),
            data=Markup(packed(profile, self._before)),  # base64
            style=Markup((WEB / "report.css").read_text(encoding="utf-8")),
            script=Markup(script()),
        )


def script() -> str:
    """The modules as one: no name is declared by two of them, and imports are of what stands above."""
    parts = [(WEB / f"{name}.js").read_text(encoding="utf-8") for name in MODULES]
    return "".join(EXPORT.sub("", IMPORT.sub("", part)) for part in parts)


def _printable(value: Any) -> Any:
    """Every text but our own markup loses control characters and direction marks, and ends somewhere."""
    return wording.plain(value, MOST_TEXT) if isinstance(value, str) and not isinstance(value, Markup) else value


def waterfall(profile: Profile) -> dict[str, Any]:
    """Bars from the ideal down to the actual: label, value, and where the bar begins and how wide it is (percent)."""
    against = profile.waterfall
    if against is not None:
        ideal, actual, unit = against.ideal, against.actual, "x"
        steps = [(step.name, step.name, step.speedup, step.evidence) for step in against.steps]
        title = f"Speed-up against {wording.plain(against.baseline, 80)}: from the ideal to the actual"
    else:
        wall_s = float(profile.meta.get("wall_s", 0.0))
        ideal, actual, unit = profile.accounting.ideal, profile.accounting.actual, "cores"
        steps = [
            (loss.name, LOSSES.get(loss.name, loss.name), loss.seconds / wall_s, loss.evidence)
            for loss in profile.accounting.losses
            if loss.name != "unaccounted" and loss.seconds > LEAST_STEP * ideal * wall_s > 0
        ]
        title = "From the cores the threads had work for, on average over the run, to those that did useful work"
    whole = max(ideal, actual, 1e-9)
    bars = [{"kind": "ideal", "label": "had work for" if unit == "cores" else "ideal", "value": ideal, "at": 0.0,
             "width": 100 * ideal / whole, "evidence": ""}]  # fmt: skip
    left = ideal
    for kind, label, value, evidence in steps:
        low, high = max(0.0, min(left, left - value)), max(0.0, left, left - value)
        bars.append(
            {"kind": kind, "label": label, "value": -value, "evidence": evidence,
             "at": 100 * min(low / whole, 1), "width": 100 * min((high - low) / whole, 1)}
        )  # fmt: skip
        left -= value
    bars.append({"kind": "actual", "label": "useful" if unit == "cores" else "actual", "value": actual, "at": 0.0,
                 "width": 100 * actual / whole, "evidence": ""})  # fmt: skip
    kinds = {str(bar["evidence"]) for bar in bars} - {""}
    how = "Measured" if kinds <= {"measured"} else "Measured, but for what is marked"
    how += {"cores": ": seconds of all threads, divided by the run's.", "x": ": against the run with one worker."}[unit]
    shown = bars if profile.threads else []
    return {"title": title, "unit": unit, "bars": shown, "ticks": ticks(whole, unit), "how": how}


def ticks(whole: float, unit: str) -> list[dict[str, Any]]:
    """Round numbers from 0 up to `whole`: where each stands (percent) and its label; the last has the unit."""
    power = 10.0 ** math.floor(math.log10(whole / 4)) if whole > 0 else 1.0
    step = next(power * by for by in (1, 2, 5, 10) if power * by >= whole / 5)
    count = math.floor(whole / step + 1e-9)
    return [
        {"at": 100 * number * step / whole, "label": f"{number * step:g}" + (f" {unit}" if number == count else "")}
        for number in range(count + 1)
    ]
