"""Whatever CUPTI answers, the script runs as ever, and the report stands on the right rung and says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cuda import SCRIPT, Fake, build
from pythons import Python

from gilprobe.analysis import load
from gilprobe.model import Evidence, Profile


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Fake:
    return build(tmp_path_factory.mktemp("fake"))


def recorded(fake: Fake, folder: Path, python: str = sys.executable, **variables: str) -> Profile:
    assert fake.run(python, folder, 5, 1_000_000, 2, **variables) == "done\n"
    return load(folder)


def test_contexts_work_and_threads_are_recorded_on_every_python(fake: Fake, tmp_path: Path, any_python: Python) -> None:
    cuda = recorded(fake, tmp_path / "r", any_python.executable).cuda
    assert (cuda["rung"], cuda["evidence"], cuda["replay"]) == ("A", Evidence.ESTIMATED, True)
    (context,) = cuda["contexts"]
    assert context["kernels"] == 10 and context["threads"] == 2 and context["set_current"] == 2
    assert context["life_s"] > 0.01 and 0.005 <= context["busy_s"] <= 0.0101
    assert cuda["processes"][0]["contexts"] == 1 and cuda["lost"] == {"dropped": 0, "unread": 0, "lost": 0}
    assert 0 < cuda["clock_error_s"] < 0.1


@pytest.mark.parametrize(
    ("variables", "rung", "says"),
    [
        ({"FAKE_CUPTI_VERSION": "130100"}, "A", ""),
        ({"FAKE_CUPTI_VERSION": "28"}, "B", "CUPTI API 28 does not record context switches; 13.1 and later do"),
        ({"FAKE_CUPTI_VERSION": "130000"}, "B", "CUPTI 13.0 does not record"),
        ({"FAKE_CUPTI_ERRORS": "switches=27"}, "B", "error 27"),
        ({"FAKE_CUPTI_ERRORS": "switches=35"}, "B", "privileges"),
        ({"FAKE_CUPTI_ERRORS": "subscribe=39"}, "E", "another CUPTI subscriber"),
        ({"FAKE_CUPTI_ERRORS": "subscribe=15"}, "E", "no NVIDIA driver"),
        ({"FAKE_CUPTI_ERRORS": "version=999"}, "E", "error 999"),
        ({"FAKE_CUPTI_ERRORS": "subscribe=999"}, "E", "error 999"),
        ({"FAKE_CUPTI_ERRORS": "clock=999"}, "E", "cannot be set up"),
        ({"FAKE_CUPTI_ERRORS": "buffers=35"}, "E", "privileges"),
        ({"FAKE_CUPTI_ERRORS": "kernels=35,copies=35"}, "E", "neither kernels nor copies"),
        ({"FAKE_CUPTI_ERRORS": "kernels=27"}, "A", ""),
    ],
    ids=lambda value: ",".join(value.values()) if isinstance(value, dict) else value,
)
def test_each_refusal_has_its_rung_and_reason(
    fake: Fake, tmp_path: Path, variables: dict[str, str], rung: str, says: str
) -> None:
    profile = recorded(fake, tmp_path / "r", **variables)
    cuda = profile.cuda
    assert cuda["rung"] == rung and says in cuda["reason"]
    if rung == "E":
        assert cuda["evidence"] == Evidence.UNAVAILABLE and no_figures(cuda)
        assert any(item.what == "cuda" and says in item.why for item in profile.not_observed)
    else:
        assert cuda["cannot_see"] and not any(item.what == "cuda" for item in profile.not_observed)


def no_figures(cuda: dict[str, Any]) -> bool:
    figures = {"contexts", "changes", "changes_per_s", "gaps", "busy_s", "gpu_s", "clock_error_s", "set_current_per_s"}
    return not figures & cuda.keys()


def test_a_second_subscriber_before_ours_leaves_no_figures(fake: Fake, tmp_path: Path) -> None:
    first = (
        "import ctypes; cupti = ctypes.CDLL('%s'); cupti.cuptiSubscribe(ctypes.byref(ctypes.c_void_p()), None, None)"
    )
    assert fake.run(sys.executable, tmp_path / "r", 2, 1000, 1, script=first % fake.cupti + SCRIPT) == "done\n"
    cuda = load(tmp_path / "r").cuda
    assert cuda["rung"] == "E" and "another CUPTI subscriber" in cuda["reason"] and no_figures(cuda)


def test_a_libcupti_that_lacks_a_function_or_is_missing(tmp_path: Path) -> None:
    lacking = build(tmp_path, "-DWITHOUT_SUBSCRIBE")
    assert "lacks functions" in recorded(lacking, tmp_path / "a").cuda["reason"]
    lacking.cupti.unlink()
    profile = recorded(lacking, tmp_path / "b")
    assert profile.cuda["rung"] == "E" and no_figures(profile.cuda)
    # Where a CUDA toolkit is installed the recorder finds its libcupti, which cannot start without a driver.
    assert any(says in profile.cuda["reason"] for says in ("no libcupti was found", "CUPTI cannot be started"))


def test_what_cupti_loses_is_counted_and_disorder_changes_nothing(fake: Fake, tmp_path: Path) -> None:
    profile = recorded(fake, tmp_path / "r", FAKE_CUPTI_DROPPED="7", FAKE_CUPTI_DISORDER="1")
    assert profile.cuda["lost"]["dropped"] >= 7 and profile.cuda["contexts"][0]["kernels"] == 10
    assert any("GPU records" in item.what for item in profile.not_observed)


@pytest.mark.parametrize("version", ["18", "28", "130001", "130500"], ids=["12.0", "12.9", "13.0", "13.5"])
def test_a_context_record_that_ends_its_buffer_is_read_whole_in_every_version(
    fake: Fake, tmp_path: Path, version: str
) -> None:
    profile = recorded(fake, tmp_path / "r", FAKE_CUPTI_VERSION=version, FAKE_CUPTI_DISORDER="1")
    assert profile.cuda["contexts"][0]["mps"] is False and profile.cuda["lost"]["unread"] == 0


# Two contexts, each made current three times by a thread, and no work.
MAKES_CURRENT = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
for name in ("cuCtxSetCurrent", "cuCtxPushCurrent_v2"): getattr(cuda, name).argtypes = [ctypes.c_void_p]
cuda.cuInit(0)
contexts = [ctypes.c_void_p() for _ in range(2)]
for context in contexts: cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0)
for _ in range(3):
    for context in contexts: cuda.cuCtxSetCurrent(context)
cuda.cuCtxPushCurrent_v2(contexts[0])
"""


@pytest.mark.parametrize(("error", "counts"), [("0", [(3, 1), (3, 0)]), ("201", [(0, 0), (0, 0)])], ids=["", "refused"])
def test_calls_count_for_the_context_that_they_name(
    fake: Fake, tmp_path: Path, error: str, counts: list[tuple[int, int]]
) -> None:
    fake.run(sys.executable, tmp_path / "r", script=MAKES_CURRENT, FAKE_CUDA_SET_CURRENT=error)
    contexts = load(tmp_path / "r").cuda["contexts"]
    assert [(context["set_current"], context["pushed"]) for context in contexts] == counts


def test_launches_through_the_runtime_bound_the_clock_too(fake: Fake, tmp_path: Path) -> None:
    script = SCRIPT.replace("fake_launch", "fake_runtime_launch")
    fake.run(sys.executable, tmp_path / "r", 5, 1_000_000, 2, script=script)
    assert 0 < load(tmp_path / "r").cuda["clock_error_s"] < 0.1


def test_where_cupti_cannot_be_set_up_it_is_free_for_others(fake: Fake, tmp_path: Path) -> None:
    script = (
        SCRIPT
        + f"""
cupti = ctypes.CDLL({str(fake.cupti)!r})
print(cupti.cuptiSubscribe(ctypes.byref(ctypes.c_void_p()), None, None))
"""
    )
    done = fake.run(sys.executable, tmp_path / "r", 1, 1000, 1, script=script, FAKE_CUPTI_ERRORS="kernels=35,copies=35")
    assert done == "done\n0\n"


def test_a_buffer_that_cannot_be_read_is_counted(fake: Fake, tmp_path: Path) -> None:
    cuda = recorded(fake, tmp_path / "r", FAKE_CUPTI_ERRORS="records=21").cuda
    assert cuda["lost"]["unread"] >= 1 and cuda["contexts"][0]["kernels"] == 0


def test_a_script_without_cuda_never_loads_libcupti(fake: Fake, tmp_path: Path) -> None:
    script = "print('cupti' in open('/proc/self/maps').read())"
    assert fake.run(sys.executable, tmp_path / "r", script=script) == "False\n"
    assert load(tmp_path / "r").cuda == {}


def test_a_forked_child_goes_on_without_cuda(fake: Fake, tmp_path: Path) -> None:
    script = SCRIPT + "pid = os.fork()\nif not pid: os._exit(0)\nassert os.waitpid(pid, 0)[1] == 0\n"
    assert fake.run(sys.executable, tmp_path / "r", 3, 1000, 1, script=script) == "done\n"
    cuda = load(tmp_path / "r").cuda
    assert [process["contexts"] for process in cuda["processes"]] == [1]


def test_children_with_an_environment_of_their_own_are_recorded_too(fake: Fake, tmp_path: Path) -> None:
    script = f"""
import os, subprocess, sys
kept = {{key: value for key, value in os.environ.items() if key.startswith(("FAKE", "LD_LIB"))}}
subprocess.run([sys.executable, "-c", {SCRIPT!r}, "2", "1000", "1"], env=kept, check=True)
"""
    assert fake.run(sys.executable, tmp_path / "r", script=script) == "done\n"
    assert len(load(tmp_path / "r").cuda["processes"]) == 1


def gilprobe(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gilprobe", "profile", *map(str, words)],
        env=os.environ | variables, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_the_command_says_why_there_is_no_gpu_and_gives_no_figure(tmp_path: Path) -> None:
    done = gilprobe("--cuda", "-o", tmp_path / "r", "-c", "raise SystemExit(3)", LD_LIBRARY_PATH="")
    if "no NVIDIA driver" not in done.stderr:
        pytest.skip("THIS MACHINE HAS AN NVIDIA DRIVER: what is said without one was not tested")
    assert done.returncode == 3 and "CUDA [unavailable]" in done.stderr and "changed hands" not in done.stderr


def test_the_command_finds_driver_and_labels_a_replay(fake: Fake, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    # Not the environment's own Python, whose packages may bring NVIDIA's libcupti.
    python = Path(sys.executable).resolve()
    done = gilprobe("--cuda=cupti", "--python", python, "-o", tmp_path / "r", script, 3, 1000, 1, **fake.environment())
    assert done.returncode == 0 and done.stdout == "done\n"
    assert "REPLAY" in done.stderr and "rung A" in done.stderr
    report = subprocess.run(
        [sys.executable, "-m", "gilprobe", "report", tmp_path / "r", "-f", "json"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    cuda = json.loads(report)["cuda"]
    assert cuda["replay"] and cuda["evidence"] == "estimated" and cuda["switch_evidence"] == "estimated"
    assert not [finding for finding in json.loads(report)["findings"] if finding["kind"] == "cuda"]


def test_without_libcupti_auto_says_so_or_goes_a_rung_down(fake: Fake, tmp_path: Path) -> None:
    done = gilprobe("--cuda", "-o", tmp_path / "r", "-c", SCRIPT, 1, 1000, 1, LD_LIBRARY_PATH=str(fake.folder),
                    FAKE_CUDA_ERROR="100")  # fmt: skip
    assert "cuInit gives error 100" in done.stderr


def test_an_unknown_rung_is_refused() -> None:
    done = gilprobe("--cuda=most", "-c", "0")
    assert done.returncode == 2 and "--cuda=most is not known" in done.stderr
