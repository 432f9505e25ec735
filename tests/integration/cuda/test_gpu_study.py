"""The GPU study as far as it goes without a GPU: on our own driver and a stand-in for nvImageCodec, and labelled."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from cuda import Fake, build

pytest.importorskip("torch", reason="NO TORCH: the GPU study was not tested")
TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Fake:
    return build(tmp_path_factory.mktemp("fake"))


def study(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reports.gpu_study", *words],
        env=os.environ | variables, cwd=TESTS.parent, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_without_a_gpu_it_says_so_in_two_lines_and_writes_nothing(tmp_path: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("THIS MACHINE HAS A GPU: what is said without one was not tested")
    done = study("--out", str(tmp_path / "out"))
    assert done.returncode == 125 and len(done.stderr.splitlines()) == 2 and "no NVIDIA driver" in done.stderr
    assert not done.stdout and not (tmp_path / "out").exists()


def carried(folder: Path) -> Path:
    for name, packs in (("site-13", "site"), ("pure", "pure")):
        with tarfile.open(folder / f"{name}.txz", "w:xz") as packed:
            packed.add(TESTS / "fake_nvimgcodec", packs)
    (folder / "pictures.pickle").write_bytes(pickle.dumps([b"picture"] * 32))
    return folder


def test_a_broken_off_call_goes_on_and_every_output_says_replay(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "carry").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    calibration = {"calibrated": None, "verdict": "uncalibrated: not run in this test"}
    known = {"build": "3.0", "mode": "threads", "backend": "hybrid", "workers": 4, "traced": True, "round": 0}
    traced = known | {"images_per_s": 90.0, "gil": True, "cuda": {"rung": "A", "replay": True, "reason": ""}}
    untraced = known | {"images_per_s": 100.0, "gil": True, "traced": False}
    rows = {"calibration": calibration, "3.0|threads|hybrid|4|traced|0": traced,
            "3.0|threads|hybrid|4|untraced|0": untraced}  # fmt: skip
    lines = [json.dumps({"key": key, "answer": answer}) for key, answer in rows.items()]
    (out / "answers.jsonl").write_text("\n".join(lines) + "\n" + lines[0][:20])
    variables = fake.environment(GILPROBE_GPU_CARRY=str(carried(tmp_path / "carry")))
    done = study("--call", "1", "--seconds", "0.2", "--cells", "3", "--out", str(out), **variables)
    assert done.returncode == 0, done.stderr
    assert "REPLAY" in done.stdout and "REPLAY" in (out / "README.md").read_text()
    assert "there is no hardware decoder" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.split()[1] in ("gpu", "hybrid") and "threads" in last, "the table comes last"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["replay"] and {row["backend"] for row in summary["rows"]} == {"hybrid", "gpu"}
    assert next(row for row in summary["rows"] if row["build"] == "3.0")["traced_over_untraced"] == 0.9
    assert len(list(out.iterdir())) <= 6


# Opens its pipe and waits for "quit", as NVIDIA's does in the foreground; its server keeps what it inherits open.
MPS_CONTROL = """#!/bin/sh
cd "$CUDA_MPS_PIPE_DIRECTORY" || exit 1
if [ "$1" = -f ]; then
    [ -z "$FAKE_MPS_FAILS" ] || { echo "no GPU for MPS" > control.log; exit 1; }
    : > control; sleep 60 & while [ ! -e quit ]; do sleep 0.02; done; kill $!
else read -r word; [ "$word" = quit ] && : > quit; fi
"""


def test_mps_is_a_daemon_of_the_studys_own_that_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gilprobe.errors import GilprobeError
    from gilprobe.loader.study import gpu

    control = tmp_path / gpu.MPS
    control.write_text(MPS_CONTROL)
    control.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with gpu.mps() as variables:
        folder = Path(variables["CUDA_MPS_PIPE_DIRECTORY"])
        assert (folder / "control").exists()
    assert not folder.exists()
    monkeypatch.setenv("FAKE_MPS_FAILS", "1")
    with pytest.raises(GilprobeError, match="MPS does not start: no GPU for MPS"), gpu.mps():
        pass


def test_what_takes_too_long_is_ended_with_all_its_processes(tmp_path: Path) -> None:
    from gilprobe.loader.study.bounded import answer_of

    pids = tmp_path / "pids"
    code = f"""
import subprocess
child, own_group = subprocess.Popen(["sleep", "99"]), subprocess.Popen(["sleep", "99"], process_group=0)
open({str(pids)!r}, "w").write(f"{{child.pid}} {{own_group.pid}}")
child.wait()
"""
    assert "ended after" in answer_of([sys.executable, "-c", code], dict(os.environ), 1)["error"]
    left = [int(pid) for pid in pids.read_text().split()]
    end = time.monotonic() + 300
    while any(map(runs, left)) and time.monotonic() < end:
        time.sleep(0.01)
    assert len(left) == 2 and not any(map(runs, left))


def test_a_codec_that_is_missing_is_said_in_one_line_and_the_table_comes_all_the_same(
    fake: Fake, tmp_path: Path
) -> None:
    (tmp_path / "carry").mkdir()
    variables = fake.environment(GILPROBE_GPU_CARRY=str(carried(tmp_path / "carry")), FAKE_NVIMGCODEC="missing")
    (tmp_path / "out").mkdir()
    known = {"key": "calibration", "answer": {"calibrated": None, "verdict": "uncalibrated: not run in this test"}}
    (tmp_path / "out" / "answers.jsonl").write_text(json.dumps(known) + "\n")
    done = study("--call", "1", "--cells", "3", "--out", str(tmp_path / "out"), **variables)
    assert done.returncode == 0, done.stderr
    missing = [line for line in done.stdout.splitlines() if line.startswith("not measured")]
    assert len(missing) == 1 and "and 2 more" in missing[0] and "libnvimgcodec.so.0" in missing[0], missing
    assert done.stdout.splitlines()[-1].startswith("build"), "a table without rows"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"answers.jsonl", "summary.json", "README.md"}


@pytest.mark.parametrize("how", ["by the clock", "by SIGTERM"])
def test_a_call_is_broken_off_wherever_it_is_and_goes_on_to_its_table(tmp_path: Path, how: str) -> None:
    code = f"""
import os, sys, time
from gilprobe.loader.study.bounded import answer_of
from reports.gpu_study.deadline import until
with until(time.monotonic() + {1 if how == "by the clock" else 99}):
    child = "import os, time; {"os.kill(os.getppid(), 15); " if how == "by SIGTERM" else ""}time.sleep(99)"
    answer_of([sys.executable, "-c", child], os.environ | dict(MARK={str(tmp_path)!r}), 99)
    print("not reached")
print("table")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=TESTS.parent, capture_output=True, text=True, timeout=300)
    said = "the time is up" if how == "by the clock" else "told to end"
    assert done.returncode == 0 and done.stdout == f"Broken off: {said}.\ntable\n", done.stderr
    assert not [path for path in Path("/proc").glob("[0-9]*/environ") if f"MARK={tmp_path}" in text_of(path)]


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_a_decode_that_hangs_is_ended_and_what_hangs_twice_is_left(fake: Fake, tmp_path: Path, mode: str) -> None:
    from gilprobe.loader.study.gpu import GpuCell, GpuStudy

    pictures = carried(tmp_path) / "pictures.pickle"
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS / "fake_nvimgcodec")])
    variables = fake.environment(FAKE_NVIMGCODEC="hangs", PYTHONPATH=paths, MARK=str(tmp_path))
    study = GpuStudy({"own": sys.executable}, pictures, tmp_path, variables, deadline_s=time.monotonic())
    answers: dict[str, dict[str, object]] = {}
    cells = [GpuCell("own", mode, "hybrid", 2, traced, number) for number in range(2) for traced in (False, True)]
    study.run(cells, answers, lambda: False, lambda key, answer: None)
    assert [answer["error"] for answer in answers.values()] == ["it was ended after 1 s"] * 2
    assert not [path for path in Path("/proc").glob("[0-9]*/environ") if f"MARK={tmp_path}" in text_of(path)]


def text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def runs(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.parametrize(("percent", "calibrated"), [("100", True), ("80", False)], ids=["right", "twin: wrong"])
def test_the_known_answer_test_tells_right_records_from_wrong_ones(
    fake: Fake, tmp_path: Path, percent: str, calibrated: bool
) -> None:
    from reports.gpu_study.calibration import alone, calibrate

    variables = os.environ | fake.environment(FAKE_SWITCH_PERCENT=percent)
    # Where the command finds it: among the interpreter's packages.
    library = tmp_path / "site" / "nvidia" / "cu13" / "lib"
    library.mkdir(parents=True)
    (library / "libcupti.so.13").symlink_to(fake.cupti)
    variables |= {"PYTHONPATH": f"{TESTS.parent}:{tmp_path / 'site'}", "FAKE_CUPTI": str(library / "libcupti.so.13")}
    solo = alone(sys.executable, variables, 60)
    found = calibrate(sys.executable, tmp_path / "run", variables, solo, 60)
    assert found["together"] and found["calibrated"] is calibrated and found["replay"], found
    assert found["switches"][0]["starts"] >= 150 and found["switches"][0]["start_to_end_s"] > 0
    assert found["verdict"].startswith("uncalibrated") is not calibrated


def test_processes_that_did_not_run_together_calibrate_nothing() -> None:
    from reports.gpu_study.calibration import judge

    assert judge(0.15, [0.15, 0.15], together=True)["calibrated"] is True
    apart = judge(0.15, [0.15, 0.15], together=False)
    assert apart["calibrated"] is False and apart["verdict"].startswith("uncalibrated")


def test_a_libcupti_that_refuses_the_driver_gives_way_to_an_older_one(tmp_path: Path) -> None:
    from reports.gpu_study.unpacked import Unpacked

    own = Unpacked.__new__(Unpacked)
    own.site, own.carried_cupti = tmp_path, ["nvidia/cu13/lib/libcupti.so.13", "nvidia/also-13.1/lib/libcupti.so.13"]
    for name in own.carried_cupti:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    for wanted in (*own.carried_cupti, None, own.carried_cupti[0]):
        own.use_cupti(wanted)
        assert [str(path.relative_to(tmp_path)) for path in tmp_path.glob("nvidia/*/lib/libcupti.so.1?")] == (
            [wanted] if wanted else []
        )
