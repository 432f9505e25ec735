"""Checks a profile against the Firefox Profiler's processed format, version 70 (firefox-devtools/profiler, types)."""

from __future__ import annotations

import json
from typing import Any

COLUMNS = {
    "stackTable": {"frame", "prefixOffset"},
    "frameTable": {
        "address", "lib", "inlineDepth", "category", "subcategory", "func", "nativeSymbol", "innerWindowID", "line",
        "column", "originalLocation",
    },
    "funcTable": {
        "name", "isJS", "relevantForJS", "resource", "source", "lineNumber", "columnNumber", "originalLocation",
    },
    "resourceTable": {"name", "host", "type"},
    "nativeSymbols": {"libIndex", "address", "name", "functionSize"},
    "sources": {"id", "filename", "startLine", "startColumn", "sourceMapURL", "content"},
    "sourceLocationTable": {"source", "line", "column"},
}  # fmt: skip
META = {
    "interval": (int, float), "startTime": (int, float), "processType": int, "product": str, "stackwalk": int,
    "version": int, "preprocessedProfileVersion": int, "categories": list, "markerSchema": list,
}  # fmt: skip
THREAD = {
    "processType", "processStartupTime", "processShutdownTime", "registerTime", "unregisterTime", "pausedRanges",
    "name", "isMainThread", "pid", "tid", "samples", "markers",
}  # fmt: skip
COLORS = {
    "transparent", "purple", "green", "orange", "yellow", "lightblue", "blue", "brown", "magenta", "red", "lightred",
    "darkgrey", "grey",
}  # fmt: skip
FORMATS = {"string", "duration", "integer", "time", "milliseconds", "percentage"}  # of those there are, ours
INTERVAL = 1


def read_gecko(text: str) -> dict[str, Any]:
    profile: dict[str, Any] = json.loads(text)
    meta, shared = profile["meta"], profile["shared"]
    assert all(isinstance(meta[key], kind) for key, kind in META.items()) and meta["preprocessedProfileVersion"] == 70
    assert all(category["color"] in COLORS and category["subcategories"] for category in meta["categories"])
    assert "grey" in {category["color"] for category in meta["categories"]}, "the default category"
    assert profile["libs"] == [] and set(shared) == {*COLUMNS, "stringArray"}
    for name, columns in COLUMNS.items():
        table = shared[name]
        assert set(table) == columns | {"length"}, name
        assert {len(table[column]) for column in columns} == {table["length"]}, name
    strings, stacks, categories = len(shared["stringArray"]), shared["stackTable"], len(meta["categories"])
    _inside(stacks["frame"], shared["frameTable"]["length"])
    assert all(0 <= offset <= at for at, offset in enumerate(stacks["prefixOffset"])), "parents come first"
    _inside(shared["frameTable"]["func"], shared["funcTable"]["length"])
    _inside(shared["frameTable"]["category"], categories)
    _inside(shared["funcTable"]["name"], strings)
    _inside([source for source in shared["funcTable"]["source"] if source is not None], shared["sources"]["length"])
    _inside(shared["sources"]["filename"], strings)
    schemas = {schema["name"]: {field["key"] for field in schema["fields"]} for schema in meta["markerSchema"]}
    assert {field["format"] for schema in meta["markerSchema"] for field in schema["fields"]} <= FORMATS
    tids = [(thread["pid"], thread["tid"]) for thread in profile["threads"]]
    assert len(set(tids)) == len(tids)
    for thread in profile["threads"]:
        assert set(thread) >= THREAD and isinstance(thread["pid"], str) and isinstance(thread["name"], str)
        _samples(thread["samples"], stacks["length"])
        _markers(thread["markers"], schemas, strings, categories, stacks["length"])
    return profile


def _samples(samples: dict[str, Any], stacks: int) -> None:
    assert {len(samples[column]) for column in ("stack", "time", "weight")} == {samples["length"]}
    assert samples["length"] > 0, "the profiler takes for granted that there is one"
    assert samples["weightType"] in ("samples", "tracing-ms")
    assert samples["time"] == sorted(samples["time"])
    _inside([stack for stack in samples["stack"] if stack is not None], stacks)


def _markers(markers: dict[str, Any], schemas: dict[str, set[str]], strings: int, categories: int, stacks: int) -> None:
    columns = ("data", "name", "startTime", "endTime", "phase", "category")
    assert {len(markers[column]) for column in columns} == {markers["length"]}
    _inside(markers["name"], strings)
    _inside(markers["category"], categories)
    assert set(markers["phase"]) <= {INTERVAL}
    assert all(end >= start for start, end in zip(markers["startTime"], markers["endTime"], strict=True))
    for data in markers["data"]:
        assert set(data) - {"type", "cause"} <= schemas[data["type"]]
        if "cause" in data:
            _inside([data["cause"]["stack"]], stacks)


def _inside(indexes: list[int], length: int) -> None:
    assert all(0 <= index < length for index in indexes)


def stack_of(profile: dict[str, Any], stack: int) -> list[str]:
    """Names of functions, innermost first."""
    shared = profile["shared"]
    names = []
    while True:
        function = shared["frameTable"]["func"][shared["stackTable"]["frame"][stack]]
        names.append(shared["stringArray"][shared["funcTable"]["name"][function]])
        offset = shared["stackTable"]["prefixOffset"][stack]
        if not offset:
            return names
        stack -= offset
