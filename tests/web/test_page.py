"""The report page in a real browser, with the network off: every view, both themes, no complaint, no request."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from array import array
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import pytest
from pages import opened, record, silent, views, walk
from pythons import CACHE, Python, pythons

from gilprobe.model import (
    Accounting,
    Collections,
    Finding,
    Frame,
    GilHold,
    GpuLane,
    Holder,
    HotObject,
    Loss,
    NativeFunction,
    NotObserved,
    OpenWait,
    Overview,
    Profile,
    Releaser,
    SampledStack,
    Span,
    SpanPart,
    SpanWindows,
    Thread,
    Timeline,
    Wait,
    Waterfall,
    WaterfallStep,
)
from gilprobe.render.html import Html
from reports.browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: chromium is not installed, the page is untested")

AXE = "axe-core-4.10.3"
PROGRAM = """
import threading, time
lock, turn = threading.Lock(), threading.Semaphore(0)
def holder():
    for _ in range(10):
        with lock:
            turn.release()
            time.sleep(0.02)
        time.sleep(0.005)
def waiter():
    for _ in range(10):
        turn.acquire()
        with lock: sum(range(100_000))
def busy():
    end = time.thread_time() + 0.3
    while time.thread_time() < end: pass
threads = [threading.Thread(target=f, name=f.__name__) for f in (holder, waiter, busy, busy)]
for t in threads: t.start()
for t in threads: t.join()
"""

LOADER_PROGRAM = """
import threading, time
from gilprobe import span
from gilprobe.loader import ThreadDataLoader
lock = threading.Lock()
class Rows:
    def __len__(self): return 64
    def __getitem__(self, at):
        with span("decode"): sum(range(20_000))
        with lock: time.sleep(0.002)  # held
        return at
for batch in ThreadDataLoader(Rows(), batch_size=4, num_workers=2): pass
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    pytest.importorskip("torch", reason="NO TORCH: the page's view of the loader is untested")
    own = Python(sys.executable, "{}.{}.{}".format(*sys.version_info), False)
    return record(own, tmp_path_factory.mktemp("loaded"), LOADER_PROGRAM)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    python = next((p for p in pythons() if p.free_threaded), pythons()[0])
    return record(python, tmp_path_factory.mktemp("recording"), PROGRAM)


@pytest.mark.parametrize(("width", "dark"), [(400, False), (1600, True)])  # either theme follows, by the button
def test_every_view_of_a_real_recording(
    chromium: Browser, recorded: Profile, tmp_path: Path, dark: bool, width: int
) -> None:
    opened(chromium, recorded, tmp_path, width=width, dark=dark)
    background = chromium.run("getComputedStyle(document.body).backgroundColor")
    walk(chromium)
    chromium.run("document.getElementById('theme').click()")
    assert chromium.run("getComputedStyle(document.body).backgroundColor") != background
    walk(chromium)
    silent(chromium)


def test_an_interval_says_who_waited_and_who_ended_it(chromium: Browser, recorded: Profile, tmp_path: Path) -> None:
    timeline = recorded.timeline
    assert timeline is not None
    names = [thread.name for thread in recorded.threads]
    chosen = max(
        (at for at in range(len(timeline)) if timeline.wait[at] >= 0 and names[timeline.thread[at]] == "waiter"
         and names[timeline.releaser[at]] == "holder" and recorded.waits[timeline.wait[at]].kind == "lock"),
        key=lambda at: timeline.duration_ns[at],
    )  # fmt: skip
    opened(chromium, recorded, tmp_path, width=1280)
    chromium.run("location.hash = '#threads'")
    chromium.wait("document.querySelector('.timeline canvas')?.clientHeight > 50")
    chromium.frames()
    box = chromium.run(
        "(({ x, y, width }) => [x, y, width])(document.querySelector('.timeline canvas').getBoundingClientRect())"
    )
    work = sorted(
        range(len(names)), key=lambda at: -recorded.threads[at].cpu_s - sum(recorded.threads[at].wait_s.values())
    )
    lane = work.index(timeline.thread[chosen])
    gutter, axis_px, lane_px = 148, 26, 24
    middle_s = (timeline.start_ns[chosen] + timeline.duration_ns[chosen] / 2) / 1e9
    x = box[0] + gutter + (box[2] - gutter) * middle_s / recorded.meta["wall_s"]
    chromium.click(x, box[1] + axis_px + lane_px * lane + lane_px / 2)
    told = chromium.run("document.querySelector('#threads .details').innerText")
    assert told.startswith("waiter waited") and "waiter waits here" in told and "holder ended it here" in told
    assert "program.py:" in told
    silent(chromium)


def test_a_finding_leads_to_its_evidence(chromium: Browser, tmp_path: Path) -> None:
    made = hostile("worker")
    longer, shorter = (
        replace(made.waits[0], object_type="", name=name, total_s=total_s, wake_delay_s=0.2)
        for name, total_s in (("longer", 0.9), ("shorter", 0.5))
    )
    findings = [Finding(f"Threads wait for a lock: {wait.name}", wait.contended_s / 2, "measured", (), f"cure {wait.name}",
                        kind="lock") for wait in (longer, shorter)]  # fmt: skip
    threads = tuple(replace(thread, wall_s=1.0, idle_s={}) for thread in made.threads)
    opened(chromium, replace(made, threads=threads, waits=(longer, shorter), findings=tuple(findings)), tmp_path)
    for number, wait in ((1, shorter), (0, longer)):
        chromium.run(f"document.querySelectorAll('.findings > li')[{number}].querySelector('.evidence a').click()")
        chromium.wait("!document.getElementById('objects').hidden")
        told = chromium.run("document.querySelector('#objects .details').innerText")
        assert told.split("\n")[0] == wait.name and f"cure {wait.name}" in told
        # The finding's figure, which leaves out the time that no core was free.
        shown = chromium.run("document.querySelector('#objects tr[aria-selected=true]').innerText").split("\t")
        assert wait.name in shown and f"{wait.contended_s / 2:.0%}" in shown
        chromium.run("location.hash = '#answer'")
        chromium.wait("!document.getElementById('answer').hidden")
    silent(chromium)


def test_tab_stops_once_at_a_table_whose_rows_the_arrow_keys_reach(
    chromium: Browser, recorded: Profile, tmp_path: Path
) -> None:
    opened(chromium, recorded, tmp_path, width=1280)
    chromium.run("location.hash = '#objects'")
    chromium.wait("!document.getElementById('objects').hidden")
    rows = "[...document.querySelectorAll('#objects .tablebox')].find((box) => box.innerText.includes('All waits'))"
    assert chromium.run(f"{rows}.querySelectorAll('tr[tabindex=\"0\"]').length") == 1
    chromium.run(f"{rows}.querySelector('tr[tabindex=\"0\"]').focus()")
    for key in ("ArrowDown", "End", "Home", "ArrowDown"):
        chromium.call("Input.dispatchKeyEvent", type="keyDown", key=key)
        chromium.frames(3)  # a scroll draws the rows anew: the focus stays
    assert chromium.run("document.activeElement.dataset.at") == "1"
    chromium.call("Input.dispatchKeyEvent", type="keyDown", key="Enter")
    chromium.wait("document.activeElement.getAttribute('aria-selected') === 'true'")
    assert chromium.run("document.activeElement.dataset.at") == "1"
    silent(chromium)


def test_the_cores_have_an_axis_with_its_unit(chromium: Browser, recorded: Profile, tmp_path: Path) -> None:
    opened(chromium, recorded, tmp_path, width=400)
    labels = chromium.run("[...document.querySelectorAll('.axis i')].map((tick) => tick.textContent)")
    assert labels[0] == "0" and labels[-1].endswith(" cores") and 3 <= len(labels) <= 8
    inside = "document.querySelector('.axis').getBoundingClientRect().right"
    assert chromium.run(
        f"[...document.querySelectorAll('.axis i')].at(-1).getBoundingClientRect().right <= {inside} + 30"
    )


def test_a_wait_that_never_ended_is_no_running_time(chromium: Browser, tmp_path: Path) -> None:
    opened(chromium, hostile("worker"), tmp_path, width=1280)
    chromium.run("location.hash = '#threads'")
    chromium.wait("document.querySelector('.timeline canvas')?.clientHeight > 50")
    chromium.frames()
    x, y, width = chromium.run(
        "(({ x, y, width }) => [x, y, width])(document.querySelector('.timeline canvas').getBoundingClientRect())"
    )
    chromium.click(x + 148 + (width - 148) * 0.6, y + 26 + 24 + 12)  # 1.2 s of 2: its open wait is from 0.5 to 1.5
    told = chromium.run("document.querySelector('#threads .details').innerText")
    assert told.startswith("worker still waited at the end") and "It waits here" in told
    silent(chromium)


def test_the_loader_says_what_its_workers_lost_and_where(chromium: Browser, loaded: Profile, tmp_path: Path) -> None:
    (cause,) = [cause for cause in loaded.loader["causes"] if cause["kind"] == "lock"]
    opened(chromium, loaded, tmp_path, width=1280)
    assert "loader" in views(chromium)
    walk(chromium)
    shown = "[...document.querySelectorAll('#{view} table')].map((table) => table.innerText)"
    chromium.run("location.hash = '#loader'")
    chromium.frames()
    causes, parts, workers = chromium.run(shown.format(view="loader"))
    held = LOADER_PROGRAM[: LOADER_PROGRAM.index("# held")].count("\n") + 1
    assert f"program.py:{held} in Rows.__getitem__" in causes and cause["name"] in causes
    assert "output wait" in parts and "consumer starved" in parts
    assert all(worker["name"] in workers for worker in loaded.loader["workers"])
    chromium.run("location.hash = '#spans'")
    chromium.frames()
    by_name, _ = chromium.run(shown.format(view="spans"))
    assert "decode\t64\t" in by_name and "NaN" not in by_name
    silent(chromium)


def test_without_a_loader_there_is_no_such_view(chromium: Browser, recorded: Profile, tmp_path: Path) -> None:
    opened(chromium, recorded, tmp_path)
    assert not {"loader", "spans", "cuda"} & set(views(chromium))


def test_a_drag_zooms_and_zero_shows_all(chromium: Browser, recorded: Profile, tmp_path: Path) -> None:
    opened(chromium, recorded, tmp_path, width=1280)
    chromium.run("location.hash = '#threads'")
    chromium.wait("document.querySelector('.timeline canvas')?.clientHeight > 50")
    x, y = chromium.run("(({ x, y }) => [x, y])(document.querySelector('.timeline canvas').getBoundingClientRect())")
    told = "document.querySelector('#threads .tools .told').innerText"
    whole = chromium.run(told)
    chromium.mouse("mousePressed", x + 300, y + 60, button="left", clickCount=1)
    chromium.mouse("mouseMoved", x + 400, y + 60, button="left")
    chromium.mouse("mouseReleased", x + 400, y + 60, button="left", clickCount=1)
    chromium.wait(f"{told} !== {whole!r}")
    chromium.run("document.querySelector('.timeline canvas').dispatchEvent(new KeyboardEvent('keydown', { key: '0' }))")
    chromium.wait(f"{told} === {whole!r}")


HOSTILE = "</script><script>window.pwned = 1</script><img src=x onerror=pwned=1>\"'`{{7*7}}\x00\x1b[31m\u202eevil\ud800"


def hostile(name: str) -> Profile:
    frame = Frame(name, f"/tmp/{name}", 3)
    open_wait = OpenWait("lock", name, 0.5, 1.0, (frame,))
    threads = tuple(
        Thread(
            name, at, 1, 2.0, 1.0, 0.1, {"lock": 0.9}, {"queue": 0.1}, 0.0, 0.5, 0.0, open_wait=open_wait, ended=False
        )
        for at in range(2)
    )
    releaser, holder = Releaser((frame,), 3, 0.9, name), Holder((frame,), 3, 0.9, name, max_s=0.5)
    wait = Wait("lock", name, name, 3, 0.9, 0.5, (0,) * 20 + (3,) + (0,) * 19, (frame,), (releaser,), (holder,),
                threads={name: 0.9}, pairs=((name, name, 0.9),))  # fmt: skip
    timeline = Timeline(
        thread=array("i", [0, 1]), wait=array("i", [0, -1]), releaser=array("i", [1, -1]), start_ns=array("q", [1000, 5000]),
        duration_ns=array("q", [900_000_000, 10]), wake_ns=array("I", [0, 0]), spin_ns=array("I", [5, 0]), release=array("b", [0, -1]),
    )  # fmt: skip
    anything: dict[str, Any] = {
        name: [{name: name, "x_s": 0.5}],
        "stack": [{"function": name, "file": name, "line": 1}],
    }
    holding = {"name": name, "taken": [{"function": name, "file": name, "line": 1}]}
    party = {"name": name, "waits_for": {"kind": "lock", "name": name}, "stack": anything["stack"], "holds": [holding]}
    return Profile(
        meta={
            "recording": name,
            "python": name,
            "wall_s": 2.0,
            "cpu_s": 1.0,
            "rate_hz": 100,
            "samples": 5,
            "sampler": name,
        },
        processes=(),
        threads=threads,
        waits=(wait,),
        hot_objects=(HotObject(name, name, 0.3, (0.2, 0.4), (name,), (frame,), "estimated", sites=((frame, 1.0),)),),
        deadlocks=({"after_s": 1.0, "threads": [party]},),
        stalls=(
            anything,
            {
                "after_s": 1.0,
                "waited_s": 2.0,
                "threads": [party],
                "gil": {"holder": name, "held_s": 1.0, "native_function": name},
            },
        ),
        lock_order=(anything, {"ways": [{"thread": name, "takes": holding, "holds": holding}] * 2}),
        spans=(
            Span(
                name,
                name,
                1,
                1,
                2,
                0.2,
                0.1,
                0.1,
                0.0,
                {"lock": 0.1},
                {},
                0.0,
                0.0,
                0.0,
                0.0,
                {},
                (),
                0.1,
                0.3,
                0,
                (name,),
            ),
        ),
        cuda=anything,
        loader={
            "workers": [{"name": name, "pid": 1, "tid": 1, "batches": 3, "parts": {name: {"wall": 1.0, "lock": 0.4}}}],
            "parts": {name: {"wall": 1.0, "lock": 0.4}},
            "starved": {"wall": 0.5, "queue": 0.5},
            "batches": 3,
            "work_s": 1.0,
            "fault_cost_us": 0.2,
            "causes": [
                {
                    "part": name,
                    "kind": name,
                    "seconds": 0.4,
                    "share": 0.4,
                    "name": name,
                    "sites": anything["stack"],
                    "evidence": name,
                }
            ],
        },
        accounting=Accounting(2.0, 1.0, (Loss(name, 1.0, 0.5, name), Loss("lock", 0.5, 0.2, "measured"))),
        findings=(Finding(name, 0.5, "measured", (frame,), name, kind="lock", detail=name),),
        not_observed=(NotObserved(name, name),),
        waterfall=Waterfall(name, 8.0, 3.1, (WaterfallStep(name, 4.9, name),)),
        cpu_stacks=(SampledStack(0, (frame,), 3, 1.0),),
        timeline=timeline,
        overview=Overview(timeline, array("I", [1, 7])),
        gil_holds=(GilHold(name, 1, 1, 0.1, 0.3, 2, (frame,), (NativeFunction(name, name, 0.5),) * 2, 3, 0.2),),
        collections=Collections(array("i", [0, 0, 1]), array("q", [1_000, 90_000_000, 5_000])),
        gpu_lanes=(GpuLane(0, 1, 1, "kernel", array("q", [1_000]), array("q", [900_000]), 1, 0.0009),),
        by_span={
            name: SpanPart(
                threads,
                (wait,),
                (SampledStack(0, (frame,), 3, 1.0),),
                (SpanWindows(0, array("q", [500]), array("q", [5_000_000])),),
            )
        },
    )


@pytest.mark.parametrize("name", [HOSTILE, HOSTILE + "x" * 1_000_000], ids=["short", "1 MB"])
def test_hostile_names_are_text_and_nothing_of_them_runs(chromium: Browser, tmp_path: Path, name: str) -> None:
    opened(chromium, hostile(name), tmp_path, before=hostile(name), width=400)
    walk(chromium)
    assert chromium.run("typeof window.pwned") == "undefined"
    assert chromium.run("document.querySelectorAll('img').length") == 0
    assert "window.pwned = 1</script>" in chromium.run("document.getElementById('answer').innerText")
    shown = chromium.run("document.documentElement.innerHTML")
    assert not any(character in shown for character in "\x00\x1b\u202e")
    silent(chromium)


@pytest.mark.parametrize("profile", [Profile(meta={}, processes=(), threads=(), waits=())], ids=["nothing"])
def test_a_recording_without_threads_says_so(chromium: Browser, tmp_path: Path, profile: Profile) -> None:
    opened(chromium, profile, tmp_path)
    assert "has no threads" in chromium.run("document.getElementById('answer').innerText")
    walk(chromium)
    silent(chromium)


def test_two_recordings_are_compared(chromium: Browser, recorded: Profile, tmp_path: Path) -> None:
    opened(chromium, recorded, tmp_path, before=recorded)
    chromium.run("location.hash = '#flame'")
    chromium.wait("document.querySelector('.flame canvas')?.height > 0")
    plain = chromium.run("document.querySelector('.flame canvas').toDataURL()")
    chromium.run(
        "[...document.querySelectorAll('#flame button')].find((b) => b.textContent.startsWith('Against')).click()"
    )
    chromium.frames()
    assert chromium.run("document.querySelector('.flame canvas').toDataURL()") != plain
    assert "of the other" in chromium.run("document.querySelector('.flametip').innerText")
    silent(chromium)


def test_the_views_are_reached_in_a_notebook_s_frame(chromium: Browser, recorded: Profile, tmp_path: Path) -> None:
    """There the page has no address, and its links would lead to the notebook's."""
    page, notebook = tmp_path / "page.html", tmp_path / "notebook.html"
    page.write_text(Html().render(recorded), encoding="utf-8")
    frame = f'<iframe srcdoc="{escape(page.read_text(encoding="utf-8"))}" width="1200" height="700"></iframe>'
    notebook.write_text(f"<!doctype html><html data-ready=1><title>notebook</title>{frame}", encoding="utf-8")
    chromium.complaints.clear()
    chromium.open(notebook)
    inside = "document.querySelector('iframe').contentDocument"
    chromium.wait(f"{inside}.documentElement.dataset.ready")
    for view in ("blocking", "objects"):
        chromium.run(f"{inside}.querySelector('nav a[href=\"#{view}\"]').click()")
        chromium.wait(f"!{inside}.getElementById('{view}')?.hidden && {inside}.querySelector('#{view} table') !== null")
    chromium.run(f"{inside}.querySelector('.evidence a').click()")
    chromium.frames()
    assert chromium.run(f"{inside}.getElementById('answer').hidden")
    assert chromium.complaints == []


def test_all_views_are_printed(chromium: Browser, recorded: Profile, tmp_path: Path) -> None:
    opened(chromium, recorded, tmp_path)
    assert len(chromium.call("Page.printToPDF")["data"]) > 20_000
    silent(chromium)


def test_paper_has_the_charts_and_no_empty_pages(chromium: Browser, recorded: Profile, tmp_path: Path) -> None:
    """No frame is drawn between beforeprint and the paper, so all is looked at in the same turn."""
    opened(chromium, recorded, tmp_path, dark=True)
    drawn = "(canvas) => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((v) => v)"
    charts, gaps, ground = chromium.run(
        "dispatchEvent(new Event('beforeprint'));"
        f"[[...document.querySelectorAll('.timeline canvas, .flame canvas')].map({drawn}),"
        " document.querySelectorAll('.gap').length, getComputedStyle(document.body).backgroundColor]"
    )
    assert charts == [True, True] and gaps == 0 and ground == "rgb(255, 255, 255)"
    chromium.run("dispatchEvent(new Event('afterprint'))")
    assert chromium.run("getComputedStyle(document.body).backgroundColor") != ground
    silent(chromium)


def axe() -> str:
    """axe-core's script, from npm once, into the user's cache. Skips loudly where it cannot be had."""
    kept = CACHE / AXE / "axe.min.js"
    if not kept.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("NO AXE: npm is not installed, accessibility is untested")
        kept.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [npm, "pack", AXE.replace("core-", "core@"), "--silent"], cwd=kept.parent, capture_output=True, timeout=300
        )
        package = kept.parent / f"{AXE}.tgz"
        if done.returncode or not package.exists():
            pytest.skip("NO AXE: npm does not give axe-core, accessibility is untested")
        with tarfile.open(package) as archive:
            script = archive.extractfile("package/axe.min.js")
            assert script is not None
            kept.write_bytes(script.read())
    return kept.read_text(encoding="utf-8")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("which", ["recorded", "loaded"])
def test_axe_finds_no_serious_fault(
    chromium: Browser, request: pytest.FixtureRequest, tmp_path: Path, which: str, dark: bool
) -> None:
    source = axe()
    opened(chromium, request.getfixturevalue(which), tmp_path, dark=dark)
    chromium.run(source + "; 1")
    rules = "{ runOnly: ['color-contrast'] }" if dark else "{}"  # the rest is the same in either theme
    for view in views(chromium) if which == "recorded" else ("loader", "spans"):
        chromium.run(f"location.hash = '#{view}'")
        chromium.wait(f"!document.getElementById('{view}').hidden")
        chromium.frames()
        seen = "result.violations.map((v) => `${v.impact} ${v.id}: ${v.nodes[0].html.slice(0, 200)}`)"
        found = chromium.run(f"axe.run(document, {rules}).then((result) => {seen})")
        assert [fault for fault in found if fault.startswith(("serious", "critical"))] == [], view
