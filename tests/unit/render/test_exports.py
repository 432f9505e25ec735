"""Other tools' readers read what is exported for them, whatever the recorded program called its things."""

from __future__ import annotations

import gzip
import json
from array import array
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from markdown_it import MarkdownIt
from readers import read_by_speedscope, sarif_schema, speedscope_schema
from readers.gecko import read_gecko, stack_of
from readers.pprof import read_pprof
from readers.trace_events import read_trace

from gilprobe.errors import OutputError
from gilprobe.model import (
    Frame,
    NotObserved,
    Process,
    Profile,
    Releaser,
    SampledStack,
    Span,
    Thread,
    Timeline,
    Wait,
)  # fmt: skip
from gilprobe.render import format_of, render_to
from gilprobe.render.base import renderer
from gilprobe.render.wording import plain

HOSTILE = {
    "script": "</script><script>alert(1)</script>",
    "quotes": "\"'`\\${x}%s{0};|,&amp;<!--\n\r\t",
    "a megabyte": "x" * 1_000_000,
    "bidi": "\u202eevil\u2066\u200f",
    "nul": "a\x00b\x1b[31m\x7f",
    "half a surrogate pair": "a\ud800b\udc00",
    "line separators": "a\u2028b\u2029c\x85",
    "empty": "",
}
FORBIDDEN = ("\x00", "\x1b", "\u202e", "\u2066", "\u2028", "\ud800", "\udc00")


def rich_profile(name: str = "worker") -> Profile:
    """Two threads of one name; single waits for a lock and the GIL, CPU samples, a deadlock, an order, a span."""
    inner, outer = Frame(f"take{name}", f"/srv/app/{name}.py", 5), Frame("run", "/srv/app/main.py", 40)
    stack = (inner, outer)
    threads = (
        Thread(name, 7, 7, 2.0, 1.0, 0.1, {"lock": 0.4, "gil": 0.1}, {"queue": 0.1}, 0.3, 0.5, 0.0),
        Thread(name, 7, 7, 2.0, 1.0, 0.1, {"lock": 0.5}, {}, 0.0, 0.5, 0.0, start_s=0.25),
    )
    by = (Releaser((outer,), 3, 0.9, name),)
    waits = (
        Wait("lock", "_thread.lock", name, 3, 0.9, 0.5, (0,) * 40, stack, by, threads={name: 0.9}),
        Wait("gil", "", "the GIL", 2, 0.1, 0.06, (0,) * 40, stack, (), threads={name: 0.1}),
        Wait("queue", "", "", 1, 0.1, 0.1, (0,) * 40, (outer,), (), idle=True, threads={name: 0.1}),
    )  # fmt: skip
    columns = [
        (0, 0, 1, 100_000_000, 400_000_000, 1_000_000, 2_000_000, 0),
        (0, 1, -1, 600_000_000, 100_000_000, 0, 0, -1),
        (1, 0, 0, 700_000_000, 500_000_000, 0, 0, 0),
        (0, 2, -1, 800_000_000, 100_000_000, 0, 0, -1),
        (0, -1, -1, 1_000_000_000, 300_000_000, 0, 0, -1),
    ]
    taken = {"name": f"{name}.B", "taken": stack}
    return Profile(
        meta={
            "recording": name, "gilprobe": "0.1.0", "python": "3.13.0", "wall_s": 2.25, "cpu_s": 2.0, "rate_hz": 100,
            "samples": 5, "sampler": "x", "started": "2026-01-02T03:04:05.678+00:00", "cwd": "/srv/app",
        },
        processes=(Process(7, 1, "3.13.0", False, True, ("python", name), 2.25, "exit"),),
        threads=threads,
        waits=waits,
        spans=(
            Span(name, name, 7, 7, 1, 0.8, 0.8, 0.3, 0.0, {"lock": 0.5}, {}, 0.0, 0.0, 0.0, 0.0, {}, (), 0.1, 0.9),
        ),
        deadlocks=(
            {"after_s": 1.0, "threads": [
                {"name": name, "waits_for": {"kind": "lock", "name": f"{name}.A"}, "stack": stack, "holds": [taken]},
                {"name": "other", "waits_for": {"kind": "lock", "name": f"{name}.B"}, "stack": (outer,), "holds": []},
            ]},
        ),
        lock_order=(
            {
                "ways": [
                    {"thread": name, "holds": {"name": f"{name}.A", "taken": stack}, "takes": taken},
                    {"thread": "other", "holds": taken, "takes": {"name": f"{name}.A", "taken": (outer,)}},
                ]
            },
        ),
        not_observed=(NotObserved(name, name),),
        cpu_stacks=(SampledStack(0, stack, 7, 0.07), SampledStack(1, (outer,), 3, 0.03)),
        timeline=Timeline(*(array("q", column) for column in zip(*columns, strict=True))),
    )  # fmt: skip


def every_profile() -> dict[str, Profile]:
    rich = {name: rich_profile(text) for name, text in HOSTILE.items()}
    return rich | {"nothing recorded": Profile(meta={}, processes=(), threads=(), waits=())}


def profiles() -> list[Any]:
    return [pytest.param(profile, id=name) for name, profile in every_profile().items()]


def rendered(name: str, profile: Profile) -> str:
    out = renderer(name).render(profile)
    assert isinstance(out, str)
    out.encode()
    assert len(out) < 200_000
    assert not any(character in text for text in strings_of(json.loads(out)) for character in FORBIDDEN)
    return out


def strings_of(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in strings_of(item))]
    if isinstance(value, list):
        return [text for item in value for text in strings_of(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("profile", profiles())
def test_speedscope_files_keep_their_schema(profile: Profile) -> None:
    jsonschema.validate(json.loads(rendered("speedscope", profile)), speedscope_schema())


def test_speedscope_imports_them_and_tells_cpu_from_waiting(tmp_path: Path) -> None:
    files = []
    for name, profile in every_profile().items():
        files.append(tmp_path / f"{name}.speedscope.json")
        files[-1].write_text(rendered("speedscope", profile))
    *read, nothing = read_by_speedscope(*files)
    assert [profile["total"] for profile in nothing["profiles"]] == [0]
    for name, imported in zip(HOSTILE, read, strict=False):
        (worker,) = imported["profiles"]
        assert worker["total"] == pytest.approx(1.2)
        assert worker["self"]["[wait: lock]||"] == pytest.approx(0.9), name
        assert worker["self"]["[idle: queue]||"] == pytest.approx(0.1)
    assert worker["self"]["take|/srv/app/.py|5"] == pytest.approx(0.07)  # of the empty name


@pytest.mark.parametrize("profile", profiles())
def test_protobuf_parses_the_pprof_profile(profile: Profile) -> None:
    out = renderer("pprof").render(profile)
    assert isinstance(out, bytes)
    read = read_pprof(out)
    texts = read.string_table
    assert not any(character in text for text in texts for character in FORBIDDEN)
    assert [(texts[kind.type], texts[kind.unit]) for kind in read.sample_type] == [
        ("contentions", "count"), ("delay", "nanoseconds"),
    ]  # fmt: skip
    contention = [wait for wait in profile.waits if not wait.idle]
    assert [list(sample.value) for sample in read.sample] == [
        [wait.count, round(wait.total_s * 1e9)] for wait in contention
    ]
    assert [len(sample.location_id) for sample in read.sample] == [len(wait.waiter) for wait in contention]


def test_pprof_samples_lead_from_the_innermost_line_outwards_and_name_the_releaser() -> None:
    read = read_pprof(renderer("pprof").render(rich_profile()))  # type: ignore[arg-type]
    texts, functions = read.string_table, {function.id: function for function in read.function}
    lines = {location.id: location.line[0] for location in read.location}
    first = [lines[number] for number in read.sample[0].location_id]
    assert [texts[functions[line.function_id].name] for line in first] == ["takeworker", "run"]
    assert [line.line for line in first] == [5, 40]
    labels = {texts[label.key]: texts[label.str] for label in read.sample[0].label}
    assert labels == {
        "kind": "lock", "object": "worker", "type": "_thread.lock", "thread": "worker",
        "released by": "worker at main.py:40 in run",
    }  # fmt: skip
    assert read.time_nanos == 1_767_323_045_678_000_000 and read.duration_nanos == 2_250_000_000


@pytest.mark.parametrize("profile", profiles())
def test_the_firefox_profiler_gets_its_documented_format(profile: Profile) -> None:
    read = read_gecko(rendered("gecko", profile))
    assert [thread["markers"]["length"] for thread in read["threads"]] == ([5, 1] if profile.threads else [])


def test_the_firefox_profiler_shows_each_wait_at_its_time_with_its_stack() -> None:
    read = read_gecko(rendered("gecko", rich_profile()))
    markers = read["threads"][0]["markers"]
    names = [read["shared"]["stringArray"][name] for name in markers["name"]]
    assert names == ["wait: lock", "GIL", "idle: queue", "sleep and I/O", "span"]
    assert (markers["startTime"][0], markers["endTime"][0]) == (100.0, 500.0)
    data = markers["data"][0] | {"cause": None}
    assert data == {
        "type": "wait", "what": "lock: worker", "site": "worker.py:5 in takeworker",
        "releaser": "worker at main.py:40 in run",
        "spin": 2.0, "wake": 1.0, "cause": None,
    }  # fmt: skip
    assert stack_of(read, markers["data"][0]["cause"]["stack"]) == ["takeworker", "run"]
    samples = read["threads"][0]["samples"]
    assert samples["weight"] == [70.0] and stack_of(read, samples["stack"][0]) == ["takeworker", "run"]


@pytest.mark.parametrize("profile", profiles())
def test_trace_events_keep_their_document(profile: Profile) -> None:
    trace = read_trace(rendered("trace", profile))
    cut = [event for event in trace["traceEvents"] if event["ph"] == "X" and event["cat"].split(",")[0] != "release"]
    assert len(cut) == (7 if profile.threads else 0)


def test_speedscope_reads_the_trace_events(tmp_path: Path) -> None:
    files = []
    for name, text in HOSTILE.items():
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(rendered("trace", rich_profile(text)))
    for read in read_by_speedscope(*files):
        assert [profile["total"] for profile in read["profiles"]] == [2_000_000, 2_000_000]


def test_an_arrow_leads_from_the_releaser_to_the_end_of_the_wait() -> None:
    events = read_trace(rendered("trace", rich_profile()))["traceEvents"]
    start, finish = (next(event for event in events if event["ph"] == phase) for phase in "sf")
    assert start["tid"] != finish["tid"] == 7  # the second thread of that id has one of its own
    assert start["ts"] == pytest.approx(499_000, abs=0.01) and finish["ts"] == pytest.approx(500_000, abs=0.01)


@pytest.mark.parametrize("profile", profiles())
def test_sarif_keeps_its_schema(profile: Profile) -> None:
    log = json.loads(rendered("sarif", profile))
    jsonschema.validate(log, sarif_schema())
    assert [result["ruleId"] for result in log["runs"][0]["results"]] == ["deadlock", "lock-order"][
        : len(profile.waits)
    ]


def test_sarif_leads_to_the_lines_of_each_thread() -> None:
    (run,) = json.loads(rendered("sarif", rich_profile()))["runs"]
    deadlock, order = run["results"]
    place = deadlock["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "worker.py", "uriBaseId": "SRCROOT"}, "region": {"startLine": 5}}
    steps = [[step["location"]["message"]["text"] for step in flow["locations"]]
             for flow in deadlock["codeFlows"][0]["threadFlows"]]  # fmt: skip
    assert steps == [["worker takes worker.B", "worker waits for worker.A"], ["other waits for worker.B"]]
    assert "worker.A, worker.B" in order["message"]["text"] and len(order["codeFlows"][0]["threadFlows"]) == 2
    moved = rich_profile().deadlocks[0]["threads"][0]["stack"][0]
    assert moved.line == 5 and len(deadlock["partialFingerprints"]["gilprobe/v1"]) == 32


@pytest.mark.parametrize("profile", profiles())
def test_a_reader_of_commonmark_finds_text_and_our_own_tables(profile: Profile) -> None:
    out = renderer("markdown").render(profile)
    assert isinstance(out, str) and len(out) < 100_000
    blocks = MarkdownIt("commonmark", {"html": True}).enable("table").parse(out)
    inline = [child for block in blocks for child in block.children or ()]
    assert {token.type for token in inline} <= {"text", "strong_open", "strong_close", "softbreak", "text_special"}
    assert not any(token.type.startswith(("html", "code", "fence")) for token in blocks)
    assert sum(token.type == "table_open" for token in blocks) == 2
    assert sum(token.type == "tr_open" for token in blocks) == 2 + len(profile.threads) + 2 * bool(profile.threads)
    if profile.waits and profile.waits[0].name:
        text = "".join(token.content for token in inline)
        assert plain(profile.waits[0].name) in text, "it reads as the name is"


@pytest.mark.parametrize("name", ["json", "markdown", "collapsed"])
@pytest.mark.parametrize("profile", profiles())
def test_the_plain_formats_are_text_that_utf_8_holds(profile: Profile, name: str) -> None:
    out = renderer(name).render(profile)
    assert isinstance(out, str)
    out.encode()
    if name == "json":
        "".join(strings_of(json.loads(out))).encode()
    else:
        assert not any(character in out for character in FORBIDDEN)
        assert name != "markdown" or "<script" not in out.replace("\\<", "")


def test_a_suffix_tells_each_format() -> None:
    for suffix, name in {
        ".gecko.json": "gecko", ".trace.json": "trace", ".pb.gz": "pprof", ".pprof": "pprof", ".sarif": "sarif",
        ".sarif.json": "sarif", ".speedscope.json": "speedscope", ".json": "json",
    }.items():  # fmt: skip
        assert format_of(Path(f"run{suffix}")) == name


def test_a_binary_format_goes_to_no_text_stream(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    import io
    import sys

    with pytest.raises(OutputError, match="binary"):
        render_to(rich_profile(), "pprof", io.StringIO())
    render_to(rich_profile(), "pprof", sys.stdout)
    assert gzip.decompress(capsysbinary.readouterr().out)


def test_perfetto_reads_the_trace(tmp_path: Path) -> None:
    """Its package fetches the program at first use, which many machines forbid."""
    from perfetto.trace_processor import TraceProcessor

    (tmp_path / "x.json").write_text(rendered("trace", rich_profile()))
    try:
        processor = TraceProcessor(trace=str(tmp_path / "x.json"))
    except Exception as error:
        pytest.skip(f"NO PERFETTO TRACE PROCESSOR: {type(error).__name__}: its program cannot be fetched here")
    with processor:
        slices = processor.query("select dur from slice where category like 'wait,lock' order by ts")
        assert [row.dur for row in slices] == [400_000_000, 500_000_000]
        assert [row.n for row in processor.query("select count(*) as n from flow")] == [2]
