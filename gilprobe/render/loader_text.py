"""The terminal report's section on gilprobe.loader's workers."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text as Styled

from gilprobe.model import Frame, Profile
from gilprobe.render.wording import percent, place, plain, seconds

MOST_CAUSES, MOST_CLASSES = 3, 7
LEAST_S = 0.0005
IDLE = ("queue", "condition", "join")
SHORT = {"stop-the-world": "stopped", "atomic stall": "stall", "page faults": "faults", "sleep-io": "sleep"}


def print_loader(profile: Profile, console: Console) -> None:
    loader = profile.loader
    if not loader:
        return
    workers, batches, starved = len(loader["workers"]), loader["batches"], loader["starved"]
    starved_s = seconds(starved.get("wall", 0.0))
    console.print()
    console.print(
        Styled(f"the loader: {workers} workers, {batches} batches; its consumer starved {starved_s}", style="bold")
    )
    rows = {**loader["parts"], **({"consumer starved": starved} if starved else {})}
    console.print(_table(rows))
    for cause in loader["causes"][:MOST_CAUSES]:
        name = f": {cause['name']}" if cause["name"] else ""
        console.print(
            Styled(
                f"  {percent(cause['share']):>5} of the work  {cause['kind']} in the {cause['part']}{plain(name)} "
                f"[{cause['evidence']}]"
            )
        )
        for frame in cause["sites"][:3]:
            console.print(Styled(f"     {place(Frame(**frame))}"))
    if not loader["causes"]:
        console.print(Styled("  the workers lost nothing that takes 1 % of their work"))


def _table(rows: dict[str, dict[str, float]]) -> Table:
    totals: dict[str, float] = {}
    for row in rows.values():
        for name, value in row.items():
            totals[name] = totals.get(name, 0.0) + value
    idle = [name for name in IDLE if totals.pop(name, 0.0) > LEAST_S]
    del totals["wall"]
    shown = sorted((name for name in totals if totals[name] >= LEAST_S), key=lambda name: -totals[name])[:MOST_CLASSES]
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, expand=False)
    table.add_column("seconds in", no_wrap=True)
    for name in ("wall", *shown, *(["idle"] if idle else [])):
        table.add_column(SHORT.get(name, name), justify="right", no_wrap=True)
    for name, row in rows.items():
        values = [row["wall"], *(row.get(column, 0.0) for column in shown)]
        if idle:
            values.append(sum(row.get(kind, 0.0) for kind in IDLE))
        table.add_row(name, *(f"{value:.3f}" if value >= LEAST_S else "-" for value in values))
    return table


def part_of_loader(name: str) -> bool:
    """Spans that this section shows, so that the spans' own need not."""
    return name.startswith("loader.")
