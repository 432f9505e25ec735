"""What the explorer must reach, and what the rows of summary.json say about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Rows = dict[str, dict[str, Any]]  # part -> interpreter -> row


@dataclass(frozen=True)
class Bar:
    """`reached` None: not measured."""

    what: str
    where: str
    bar: str
    measured: str
    reached: bool | None


def bars(rows: Rows) -> list[Bar]:
    return [bar for part in _PARTS for bar in part(rows)]


def _each(rows: Rows, part: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    for name in ("3.11", "3.13", "3.13t"):
        row = rows.get(part, {}).get(name)
        yield name, None if row is None or "failed" in row else row


def _simple(
    part: str, what: str, bar: str, judge: Callable[[dict[str, Any], str], tuple[str, bool]]
) -> Callable[[Rows], Iterator[Bar]]:
    def each(rows: Rows) -> Iterator[Bar]:
        for name, row in _each(rows, part):
            if row is None:
                yield Bar(what, name, bar, "not measured", None)
            else:
                measured, reached = judge(row, name)
                yield Bar(what, name, bar, measured, reached)

    return each


def _planted(limit_s: Callable[[str], float]) -> Callable[[dict[str, Any], str], tuple[str, bool]]:
    def judge(row: dict[str, Any], name: str) -> tuple[str, bool]:
        cases = _cases(row)
        found, seeds = (sum(case[key] for case in cases) for key in ("found", "seeds"))
        slowest = max(case["cpu_s_p95"] for case in cases)
        return f"{found} of {seeds}, slowest p95 {slowest} s", found == seeds and slowest <= limit_s(name)

    return judge


def _cases(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row's own entries by case, without what the suite adds."""
    cases: dict[str, Any] = row["cases"]
    return list(cases.values())


def _schedules(row: dict[str, Any], name: str) -> tuple[str, bool]:
    speed = row["schedules_per_cpu_s"]
    measured = f"{speed} ({row['points_mean']} points, {row['switches_mean']} switches)"
    return measured, speed >= (500 if name.endswith("t") else 2_000) and row["switches_mean"] >= 8


def _shrunk(row: dict[str, Any], name: str) -> tuple[str, bool]:
    cases = _cases(row)
    least, seeds = (sum(case[key] for case in cases) for key in ("least", "seeds"))
    slowest = max(case["cpu_s_p95"] for case in cases)
    return f"{least} of {seeds}, slowest p95 {slowest} s", least >= 0.95 * seeds and slowest <= 5


def _foreign(row: dict[str, Any], name: str) -> tuple[str, bool]:
    always = f"{row['found_always']} of {row['bugs']} bugs in each"
    measured = f"{row['found']} of {row['runs']} runs ({always}), {row['false']} false"
    return measured, row["bugs"] >= 20 and row["found"] >= 0.9 * row["runs"] and row["false"] == 0


def _twins(row: dict[str, Any], name: str) -> tuple[str, bool]:
    return f"{row['failures']} in {row['schedules']}", row["failures"] == 0 and row["schedules"] >= 100_000


def _lin(row: dict[str, Any], name: str) -> tuple[str, bool]:
    measured = f"{row['disagreements']} disagreements in {row['histories']}; {row['long_history_ms']} ms"
    reached = row["disagreements"] == 0 and row["histories"] >= 10_000 and row["long_history_accepted"]
    return measured, reached and row["long_history_ms"] <= 100


def _same_schedule(rows: Rows) -> Iterator[Bar]:
    what, bar = "the same least schedule on 3.13 and 3.13t", "all"
    mine, other = (dict(_each(rows, "least"))[name] for name in ("3.13", "3.13t"))
    if mine is None or other is None:
        yield Bar(what, "both", bar, "not measured", None)
        return
    same = [
        name
        for name, switches in mine["cases"].items()
        if switches is not None and switches == other["cases"].get(name)
    ]
    differ = sorted(set(mine["cases"]) - set(same))
    yield Bar(what, "both", bar, f"{len(same)} of {len(mine['cases'])}" + f" (not: {', '.join(differ)})" * bool(differ),
              not differ)  # fmt: skip


def _exhausted(rows: Rows) -> Iterator[Bar]:
    for part in ("classic", "harder", "unseen", "foreign"):
        for name, row in _each(rows, part):
            if row is not None:
                count = row["exhausted_bugs"] if part == "foreign" else sum(c["exhausted"] for c in _cases(row))
                yield Bar(f"a buggy one called exhausted ({part})", name, "0", str(count), count == 0)


def _loader(rows: Rows) -> Iterator[Bar]:
    for row in rows.get("loader", {}).values():
        if "campaigns" in row:
            each = [c for c in row["campaigns"].values() if "skipped" not in c]
            yield Bar("campaigns over our loader: quiet, planted twins found", row["python"], "all",
                      f"{sum(c['quiet'] for c in each)} of {len(each)}", row["quiet"] if each else None)  # fmt: skip


def _mutants(rows: Rows) -> Iterator[Bar]:
    for row in rows.get("mutants", {}).values():
        if "total" in row:
            share = row["killed"] / max(1, row["total"])
            yield Bar("mutants of the loader killed", row["python"], ">= 90 %", f"{row['killed']} of {row['total']}",
                      share >= 0.9 if row.get("whole", True) else None)  # fmt: skip


_PARTS: list[Callable[[Rows], Iterator[Bar]]] = [
    _simple("classic", "five classic bugs found", "100 %; p95 <= 0.5 s with the GIL, 2 s without",
            _planted(lambda name: 2.0 if name.endswith("t") else 0.5)),
    _simple("harder", "five harder bugs found", "100 %; p95 <= 5 s", _planted(lambda name: 5.0)),
    _simple("check", "shrunk to two operations a thread and the least preemptions", ">= 95 %; <= 5 s", _shrunk),
    _simple("replay", "replays in fresh processes", "100 of 100",
            lambda row, _: (f"{row['reproduced']} of {row['processes']}, {row['bugs']} bugs",
                            row["reproduced"] == row["processes"] >= 100)),
    _same_schedule,
    _simple("schedules", "schedules a CPU second", ">= 2,000 with the GIL, >= 500 without", _schedules),
    _simple("foreign", "bugs by another hand", ">= 90 % found, 0 false", _foreign),
    _simple("twins", "failures of fixed twins", "0 in 100,000 schedules", _twins),
    _exhausted,
    _simple("linearizability", "linearizability against every order", "0 in 10,000; 2,000 operations <= 100 ms", _lin),
    _loader,
    _mutants,
    _simple("uncontrolled", "a blocking call that is not modelled is named", "within 2 s",
            lambda row, _: (f"{row['verdict']} after {row['wall_s_to_verdict']} s",
                            row["verdict"] == "UNCONTROLLED" and row["wall_s_to_verdict"] <= 2)),
    _simple("campaigns", "campaigns: subjects quiet, planted twins found", "all",
            lambda row, _: (f"{sum(c.get('quiet', False) for c in row['campaigns'].values())} of "
                            f"{sum('skipped' not in c for c in row['campaigns'].values())}", row["quiet"])),
]  # fmt: skip
