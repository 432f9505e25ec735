"""Checks a file against the Trace Event Format's document: phases, their fields, and nesting on each thread."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

FIELDS = {
    "M": {"name", "args"}, "X": {"name", "cat", "ts", "dur"}, "b": {"name", "cat", "id", "ts"},
    "e": {"name", "cat", "id", "ts"}, "s": {"name", "cat", "id", "ts"}, "f": {"name", "cat", "id", "ts", "bp"},
}  # fmt: skip
NAMES = {"process_name": "name", "process_labels": "labels", "thread_name": "name", "thread_sort_index": "sort_index"}
SLACK_US = 0.0005  # half a nanosecond: numbers are decimal


def read_trace(text: str) -> dict[str, Any]:
    trace: dict[str, Any] = json.loads(text)
    assert trace["displayTimeUnit"] in ("ms", "ns")
    open_spans: dict[tuple[str, int], int] = defaultdict(int)
    flows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    slices: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in trace["traceEvents"]:
        assert FIELDS[event["ph"]] <= set(event)
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        match event["ph"]:
            case "M":
                assert NAMES[event["name"]] in event["args"]
            case "X":
                assert event["dur"] >= 0 and event["ts"] >= 0
                slices[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
            case "b" | "e":
                open_spans[event["cat"], event["id"]] += 1 if event["ph"] == "b" else -1
            case _:
                flows[event["id"]].append(event)
    assert not any(open_spans.values())
    for start, finish in flows.values():
        assert (start["ph"], finish["ph"], finish["bp"]) == ("s", "f", "e")
        for end in (start, finish):
            here = slices[end["pid"], end["tid"]]
            assert any(begin - SLACK_US <= end["ts"] < stop + SLACK_US for begin, stop in here), "no slice to bind to"
    for there in slices.values():
        _nested(there)
    return trace


def _nested(slices: list[tuple[float, float]]) -> None:
    """No slice of a thread ends within another that began in it."""
    stack: list[float] = []
    for start, end in sorted(slices, key=lambda item: (item[0], -item[1])):
        while stack and stack[-1] <= start + SLACK_US:
            stack.pop()
        assert not stack or end <= stack[-1] + SLACK_US, "slices overlap"
        stack.append(end)
