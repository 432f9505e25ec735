"""Several processes on one clock. The figures come from our own driver: what is tested is the merging, not a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cuda import SCRIPT, Fake, build

from gilprobe.analysis import load
from gilprobe.analysis.cuda import cuda_findings
from gilprobe.launch.target import Options, environment
from gilprobe.recording import Recording, read_folder
from gilprobe.render.cuda import REPLAY, cuda_lines

# Two processes that have the GPU by turns: 20 times 1 ms each, with 0.5 ms between; process 1 begins.
TURNS = """
import ctypes, sys, time
number, epoch_ns, switches = int(sys.argv[1]), int(sys.argv[2]), ctypes.CDLL(sys.argv[3]).fake_switch
switches.argtypes = [ctypes.c_uint32, ctypes.c_uint64, ctypes.c_uint32]
cuda = ctypes.CDLL("libcuda.so.1")
cuda.fake_launch.argtypes = [ctypes.c_uint64] * 2
cuda.cuInit(0)
context = ctypes.c_void_p()
cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0)
for turn in range(20):
    start_ns = epoch_ns + (2 * turn + number) * 1_500_000
    cuda.fake_launch(start_ns, 1_000_000)
    switches(1, start_ns, 1)
    switches(1, start_ns + 1_000_000, 2)
"""

# `holder` holds the GIL for 40 ms while `waiter` wants it; the GPU works before and after, not meanwhile.
HOLDS = """
import ctypes, threading, time
cuda = ctypes.CDLL("libcuda.so.1")
cuda.fake_launch.argtypes = [ctypes.c_uint64] * 2
cuda.cuInit(0)
context = ctypes.c_void_p()
cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0)
sleep_with_gil = ctypes.PyDLL(None).usleep
ready = threading.Event()
def waiter():
    ready.set()
    end = time.monotonic() + 0.4
    while time.monotonic() < end: time.sleep(0.001)
def holder():
    ready.wait()
    for _ in range(4):
        sleep_with_gil(40_000)
        time.sleep(0.02)
begin_ns = time.monotonic_ns()
threads = [threading.Thread(target=f, name=f.__name__) for f in (waiter, holder)]
for t in threads: t.start()
for t in threads: t.join()
end_ns = time.monotonic_ns()
BUSY
"""
IDLE = "cuda.fake_launch(begin_ns, 1000); cuda.fake_launch(end_ns, 1000)"
TWIN = "cuda.fake_launch(begin_ns, end_ns - begin_ns)"


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Fake:
    return build(tmp_path_factory.mktemp("fake"))


@pytest.mark.parametrize("errors", ["", "switches=27"], ids=["with switches", "estimated from work"])
def test_two_processes_by_turns(fake: Fake, tmp_path: Path, errors: str) -> None:
    variables = fake.environment(tmp_path, FAKE_CUPTI_ERRORS=errors)
    children = [
        subprocess.Popen([sys.executable, "-c", TURNS, str(number), "1000000000000", fake.cupti], env=variables)
        for number in range(2)
    ]
    assert [child.wait(300) for child in children] == [0, 0]
    cuda = load(tmp_path).cuda
    assert [process["contexts"] for process in cuda["processes"]] == [1, 1]
    assert cuda["changes"] == 39 and cuda["gaps"]["count"] == 39
    assert round(cuda["gaps"]["median_s"], 7) == 0.0005
    assert round(cuda["busy_s"], 6) == 0.04 and round(cuda["gpu_s"], 6) == 0.0595
    resident = [context["resident_s"] for context in cuda["contexts"]]
    assert resident == ([None, None] if errors else [pytest.approx(0.02)] * 2)
    assert cuda["rung"] == ("B" if errors else "A")
    lines = cuda_lines(cuda)
    assert lines[0] == REPLAY and any("39 times" in line and "[estimated]" in line for line in lines)
    assert not cuda_findings(cuda), "a replay must not make a claim about a GPU"
    (finding,) = cuda_findings(cuda | {"replay": False})
    assert finding.title == (
        "2 processes hold 2 CUDA contexts; the GPU changed hands 655 times a second; gaps cost 32.8% of GPU time"
    )
    assert cuda["figures"]["contexts_busy_s"] == "estimated", "a kernel's time may hold that of the other process"
    assert cuda["figures"]["resident_s"] == ("unavailable" if errors else "estimated")
    # A study counts what lies between its workers' start and end: here turns 2 to 5 of each, all but 0.25 ms.
    window = [1000_006_250_000, 1000_018_000_000]
    (tmp_path / "cuda.json").write_text(json.dumps({"window_ns": window}))
    part = load(tmp_path).cuda
    assert part["changes"] == 7 and [context["kernels"] for context in part["contexts"]] == [4, 4]
    assert round(part["busy_s"], 8) == 0.00775 and round(part["gpu_s"], 8) == 0.01125
    resident = [context["resident_s"] for context in part["contexts"]]  # in either order
    assert errors or sorted(resident) == [pytest.approx(0.00375), pytest.approx(0.004)]


def test_where_one_process_gives_no_switches_those_of_the_others_are_not_the_whole(fake: Fake, tmp_path: Path) -> None:
    for number, script in ((0, TURNS), (1, TURNS.replace("switches(1", "(lambda *_: 0)(1"))):
        variables = fake.environment(tmp_path)
        command = [sys.executable, "-c", script, str(number), "1000000000000", fake.cupti]
        subprocess.run(command, env=variables, check=True, timeout=300)
    profile = load(tmp_path)
    assert profile.cuda["rung"] == "A" and profile.cuda["changes"] == 39, "by the work, in which both have a part"
    assert any("gave none of some contexts" in item.why for item in profile.not_observed)


def test_processes_under_mps_are_one_owner_to_the_gpu(fake: Fake, tmp_path: Path) -> None:
    variables = fake.environment(tmp_path, FAKE_CUPTI_ERRORS="switches=27", FAKE_CUPTI_API_KIND="2")
    for number in range(2):
        command = [sys.executable, "-c", TURNS, str(number), "1000000000000", fake.cupti]
        subprocess.run(command, env=variables, check=True, timeout=300)
    cuda = load(tmp_path).cuda
    assert cuda["under_mps"] and len(cuda["processes"]) == 2 and cuda["changes"] == 0
    assert any("MPS serves these processes" in line for line in cuda_lines(cuda))
    assert not cuda_findings(cuda | {"replay": False})


KILLED = SCRIPT + "os.kill(os.getpid(), 9)\n"


def test_of_a_killed_process_it_is_said_that_its_last_work_is_missing(fake: Fake, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        fake.run(sys.executable, tmp_path / "r", 3, 1000, 1, script=KILLED)
    missing = load(tmp_path / "r").not_observed
    assert any(item.what.startswith("cuda: the last work of process") for item in missing)


@pytest.mark.parametrize(("busy", "idle"), [(IDLE, True), (TWIN, False)], ids=["GPU idle", "twin: GPU busy"])
def test_who_held_the_gil_while_the_gpu_was_idle(fake: Fake, tmp_path: Path, busy: str, idle: bool) -> None:
    fake.run(sys.executable, tmp_path / "r", script=HOLDS.replace("BUSY", busy))
    rows = [row for row in load(tmp_path / "r").cuda["waits_while_idle"] if row["kind"] == "gil"]
    of_holder = sum(row["idle_s"] for row in rows if row["releaser"] == "holder")
    assert (of_holder > 0.04) is idle


def test_a_capture_of_raw_records_replays_to_the_same_work(fake: Fake, tmp_path: Path) -> None:
    """What the study brings home from a GPU is read by the code that reads it there."""
    first = record_raw(fake, tmp_path / "first", SCRIPT, "5", "1000000", "2")
    assert len(first.cuda.raw) == 1 + 10, "the context and its kernels"
    capture = tmp_path / "capture"
    capture.write_bytes(b"".join(len(raw).to_bytes(4, "little") + raw for raw in first.cuda.raw))
    script = "import ctypes; ctypes.CDLL('libcuda.so.1').cuInit(0)"
    again = record_raw(fake, tmp_path / "again", script, FAKE_CUPTI_REPLAY=str(capture))
    assert sorted(again.cuda.all_work().tolist()) == sorted(first.cuda.all_work().tolist())
    assert again.cuda.states[0]["replay"] == 1


def record_raw(fake: Fake, folder: Path, script: str, *words: str, **variables: str) -> Recording:
    folder.mkdir()
    options = Options(cuda=True, cupti=str(fake.cupti), cuda_raw=100)
    environ = environment(folder, options) | fake.environment(**variables)
    subprocess.run([sys.executable, "-c", script, *words], env=environ, check=True, timeout=300)
    (recording,) = read_folder(folder)
    return recording
