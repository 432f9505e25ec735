"""The terminal report is one screen with the answer first, whatever there is to tell."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len

from gilprobe.model import (
    Accounting,
    Finding,
    Frame,
    GilHold,
    NativeFunction,
    NotObserved,
    Process,
    Profile,
    Releaser,
    Span,
    Thread,
    Wait,
    Waterfall,
    WaterfallStep,
)
from gilprobe.render.base import renderer
from gilprobe.render.text import print_summary
from gilprobe.render.wording import answer


def crowded(name: str = "a-long-name-of-a-thing", count: int = 60) -> Profile:
    frame = Frame(f"Class.{name}", f"/srv/{name}.py", 5)
    names = [f"{name}-{number}" for number in range(count)]
    return Profile(
        meta={"python": "3.13.0", "wall_s": 10.0, "cpu_s": 20.0},
        processes=(Process(1, 0, "3.13.0", False, True, ("python",), 10.0, "exit"),),
        threads=tuple(
            Thread(each, 1, 1, 10.0, 2.0, 1.0, {"lock": 3.0, "gil": 1.0}, {}, 3.0, 1.0, 0.0) for each in names
        ),
        waits=tuple(
            Wait("lock", "", each, 5, 3.0, 1.0, (), (frame,), (Releaser((frame,), 5, 3.0, each),)) for each in names
        ),
        spans=tuple(
            Span(each, "t", 1, 1, 3, 3.0, 1.0, 1.0, 0.1, {"lock": 1.0}, {}, 0.0, 0.0, 0.0, 0.0, {}, (), 0.0, 3.0)
            for each in names
        ),
        accounting=Accounting(8.0, 2.0, ()),
        findings=tuple(
            Finding(f"Threads wait for {each}", 0.3, "measured", (frame,) * 3, "Hold it for less. " * 8, kind="lock")
            for each in names
        ),
        not_observed=tuple(NotObserved(f"{number} records", "no room") for number in range(count)),
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


NAMES = {
    "plain": "worker",
    "wide": "\u5de5" * 300,
    "hostile": "</script>\x1b[31m\u202e\n\x00\ud800",
    "long": "x" * 1_000_000,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_pipe_gets_one_screen_of_80_columns_without_colour(name: str) -> None:
    out = io.StringIO()
    print_summary(crowded(name), out, recording="run.gilprobe")
    text = out.getvalue()
    lines = text.splitlines()
    assert len(lines) <= 40 and max(map(cell_len, lines)) <= 80
    assert "\x1b" not in text and "\x00" not in text and "\u202e" not in text
    assert lines[1].startswith("gilprobe  Python 3.13.0") and lines[2].startswith("60 threads")
    assert "1.   30%" in text and "seconds of" in text, "the first cause and the threads are always there"
    assert lines[-1] == "whole report: gilprobe report run.gilprobe -o report.html"


def test_threads_beyond_the_first_eight_are_one_row() -> None:
    (row,) = (line for line in renderer("text").render(crowded(count=12)).splitlines() if "more, in all" in line)
    assert " ".join(row.split()) == "4 more, in all 40.000 8.000 - 4.000 12.000 4.000 - 12.000"


def test_the_recordings_name_is_quoted_for_the_shell() -> None:
    out = io.StringIO()
    print_summary(crowded(), out, recording="my run")
    assert out.getvalue().endswith("gilprobe report 'my run' -o report.html\n")


@pytest.mark.parametrize(("height", "most"), [("24", 23), ("50", 49), ("5", 20)])
def test_a_terminal_gets_what_it_has_room_for(monkeypatch: pytest.MonkeyPatch, height: str, most: int) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", height)
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()
    print_summary(crowded(), out)
    assert most - 6 <= len(out.getvalue().splitlines()) <= most
    assert "\x1b[32m" in out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    print_summary(crowded(), out)
    assert "\x1b[32m" not in out.getvalue()


def test_a_file_has_everything_and_few_findings_need_no_cutting() -> None:
    whole = renderer("text").render(crowded(count=3))
    assert isinstance(whole, str)
    out = io.StringIO()
    print_summary(crowded(count=3), out)
    assert "a-long-name-of-a-thing-2" in whole and len(whole.splitlines()) >= len(out.getvalue().splitlines())


def test_only_a_waterfall_lets_it_say_how_much_faster_than_one_thread() -> None:
    plain = crowded(count=8)
    assert "as fast as one" not in answer(plain)
    steps = (WaterfallStep("lock", 1.9, "measured"), WaterfallStep("runnable", 3.0 - 0.1, "measured"))
    told = answer(replace(plain, waterfall=Waterfall("one", 8.0, 3.1, steps)))
    assert told == "8 threads ran 3.1x as fast as one. 59% of what is lost: ready, but no core was free."
    told = answer(replace(plain, waterfall=Waterfall("one", 8.0, 3.1, steps[:1])))
    assert told == (
        "8 threads ran 3.1x as fast as one. 39% of what is lost: Threads wait for a-long-name-of-a-thing-0 "
        "(a-long-name-of-a-thing.py:5 in Class.a-long-name-of-a-thing)."
    )
    assert answer(replace(plain, waterfall=Waterfall("one", 8.0, 7.9, ()))) == (
        "8 threads ran 7.9x as fast as one. Hardly anything is lost."
    )


def test_long_names_of_functions_leave_the_times_and_threads_of_the_longest_holds() -> None:
    native = tuple(NativeFunction("_PyEval_EvalFrameDefault_" * 4, "libpython3.12.so.1.0", 0.5) for _ in range(2))
    hold = GilHold("worker", 1, 1, 0.0, 0.25, 1, (Frame("f" * 60, "/srv/a.py", 5),), native, 5)
    out = io.StringIO()
    print_summary(replace(crowded(count=1), gil_holds=(hold,)), out)
    (row,) = (line for line in out.getvalue().splitlines() if "_PyEval" in line)
    assert row.split()[:3] == ["250", "ms", "worker"]
