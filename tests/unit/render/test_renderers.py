"""Every format shows hostile names as text, and is valid."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar

import pytest
from pythons import ROOT

from gilprobe.errors import OutputError
from gilprobe.model import (
    Finding,
    Frame,
    GilHold,
    NativeFunction,
    NotObserved,
    Process,
    Profile,
    Releaser,
    Thread,
    Wait,
)
from gilprobe.render import FORMATS, format_of, render_to, write_report
from gilprobe.render.base import renderer

HOSTILE = "</script><script>alert(1)</script>\"'`|*\x00\x1b[31m\u202eevil" + "x" * 100_000


def profile(name: str = HOSTILE) -> Profile:
    frame = Frame(name, f"/tmp/{name}", 3)
    thread = Thread(name, 1, 1, 2.0, 1.0, 0.1, {"lock": 0.9}, {"queue": 0.0}, 0.0, 0.5, 0.0)
    wait = Wait("lock", name, name, 3, 0.9, 0.5, (0,) * 40, (frame,), (Releaser((frame,), 3, 0.9, name),),
                threads={name: 0.9}, pairs=((name, name, 0.9),))  # fmt: skip
    return Profile(
        meta={
            "recording": name,
            "python": "3.13.0",
            "wall_s": 2.0,
            "cpu_s": 1.0,
            "rate_hz": 100,
            "samples": 5,
            "sampler": "x",
        },
        processes=(Process(1, 0, "3.13.0", False, True, (name,), 2.0, "exit"),),
        threads=(thread,),
        waits=(wait,),
        findings=(Finding(name, 0.5, "measured", (frame,), name),),
        not_observed=(NotObserved(name, name),),
        gil_holds=(GilHold(name, 1, 1, 0.1, 0.3, 2, (frame,), (NativeFunction(name, name, 0.5),), 3),),
    )


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_hostile_names_are_text_in_every_format(name: str) -> None:
    report = renderer(name).render(profile())
    if isinstance(report, bytes):
        return  # read by its own reader in test_exports
    out = report
    if name in ("html", "markdown"):
        assert "<script>alert" not in out
    if name != "json":
        assert "\x00" not in out and "\x1b" not in out and "\u202e" not in out
    if name in ("json", "speedscope", "gecko", "trace", "sarif"):
        json.loads(out)


def test_the_page_needs_no_network_and_closes_its_tags() -> None:
    class Sources(HTMLParser):
        found: ClassVar[list[str]] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found += [value or "" for key, value in attrs if key in ("src", "href")]

    page = renderer("html").render(profile("plain"))
    parser = Sources()
    parser.feed(page)
    assert all(source.startswith("#") for source in parser.found)
    assert page.count("<script") == page.count("</script>") == 2
    assert len(page.encode()) < 400_000


def test_collapsed_stacks_hold_no_separator_of_their_own() -> None:
    (line,) = renderer("collapsed").render(profile("a;b\nc 7")).splitlines()
    stack, _, microseconds = line.rpartition(" ")
    assert (stack.count(";"), microseconds) == (2, "900000") and stack.endswith(";[wait: lock]")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_an_empty_profile_makes_a_report_that_says_so(name: str) -> None:
    report = renderer(name).render(Profile(meta={}, processes=(), threads=(), waits=()))
    assert report or name == "collapsed"  # no stacks, no lines


def test_reports_are_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(profile("x"), "json", path)
    with pytest.raises(OutputError, match="exists"):
        write_report(profile("y"), "json", path)
    assert json.loads(path.read_text())["meta"]["recording"] == "x"
    write_report(profile("y"), "json", path, force=True)
    assert json.loads(path.read_text())["meta"]["recording"] == "y"
    with pytest.raises(OutputError, match="does not exist"):
        write_report(profile("x"), "json", tmp_path / "missing" / "report.json")
    with pytest.raises(OutputError, match="does not tell its format"):
        format_of(Path("report.xyz"))
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


KILLED = """
import resource, signal, sys
from pathlib import Path
from gilprobe.render.base import write_whole
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the kernel kills it at the thousandth byte
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_whole(b"x" * 100_000, Path(sys.argv[1]))
"""


def test_a_kill_amid_the_writing_leaves_the_old_report_and_nothing_else(tmp_path: Path) -> None:
    (old := tmp_path / "report.html").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(old)], cwd=ROOT, check=False, timeout=300)
    assert done.returncode == -signal.SIGXFSZ
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"] and old.read_text() == "old"


def test_a_pipe_is_written_into_and_a_link_stays_one(tmp_path: Path) -> None:
    """As root, a report to /dev/stdout or /dev/null with --force would else put a file in the device's place."""
    os.mkfifo(pipe := tmp_path / "pipe.json")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_report(profile("x"), "json", pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode) and json.loads(os.read(reader, 1 << 20))["meta"]["recording"] == "x"
    os.close(reader)
    (link := tmp_path / "link.json").symlink_to(kept := tmp_path / "kept.json")
    kept.write_text("old")
    with pytest.raises(OutputError, match="exists"):
        write_report(profile("x"), "json", link)
    write_report(profile("x"), "json", link, force=True)
    assert link.is_symlink() and json.loads(kept.read_text())["meta"]["recording"] == "x"
    with pytest.raises(OutputError, match="directory"):
        write_report(profile("x"), "json", tmp_path, force=True)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_stream_that_holds_only_ascii_gets_every_format(name: str) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    render_to(profile("gr\u00f6\u00dfe \ud800"), name, out)


CONTRACT = {
    "schema", "meta", "threads", "waits", "hot_objects", "deadlocks", "stalls", "spans", "loader", "lock_order", "cuda",
    "accounting", "findings", "not_observed",
}  # fmt: skip
THREAD_KEYS = {
    "name", "tid", "pid", "wall_s", "cpu_s", "atomic_stall_s", "spin_s", "runnable_s", "wake_delay_s", "wait_s",
    "idle_s", "sleep_io_s", "gil_held_s", "unaccounted_s",
}  # fmt: skip


def test_the_json_report_keeps_its_contract() -> None:
    report = json.loads(renderer("json").render(profile("x")))
    assert set(report) >= CONTRACT
    assert set(report["threads"][0]) >= THREAD_KEYS
    assert set(report["waits"][0]["waiter"][0]) == {"function", "file", "line"}
