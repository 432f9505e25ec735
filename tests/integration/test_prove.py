"""--prove: what is done to the objects, seen by the script itself; what is refused; what the report says of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pythons import Python

from gilprobe.analysis import load
from gilprobe.analysis.proof import FOLDER

# Two threads load one object until the time is up; then the script says what its count is, once a run.
SHARED = """
import gc, sys, threading, time
class Config:
    pass
def work(config):
    end = time.thread_time() + (3 if FIGHT else 1)
    while time.thread_time() < end:
        for number in range(2000):
            x = config
            x = config
shared = Config()
own = [Config(), Config()]
with open(sys.argv[1], "a") as told:
    threads = [threading.Thread(target=work, args=(config,)) for config in ([shared] * 2 if FIGHT else own)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    gc.collect()
    print(sys.getrefcount(shared), file=told)
print("done")
"""
IMMORTAL = 1 << 28


def prove(python: Python, folder: Path, *, fight: bool) -> tuple[subprocess.CompletedProcess[str], list[int]]:
    """The command, and the shared object's count at the end of each run."""
    script, told = folder / "script.py", folder / "told"
    script.write_text(SHARED.replace("FIGHT", str(fight)))
    done = subprocess.run(
        [sys.executable, "-m", "gilprobe", "profile", "--prove", "2", "--rate", "500",
         "-o", str(folder / "it.gilprobe"), "--python", python.executable, str(script), str(told)],
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    return done, [int(line) for line in told.read_text().split()] if told.exists() else []


def test_the_hot_object_is_made_immortal_in_the_last_of_three_runs(
    free_threaded_python: Python, tmp_path: Path
) -> None:
    done, counts = prove(free_threaded_python, tmp_path, fight=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"  # the reruns print nothing
    profile = load(tmp_path / "it.gilprobe")
    ready_s, cpu_s = (sum(getattr(thread, name) for thread in profile.threads) for name in ("runnable_s", "cpu_s"))
    if max(counts) < IMMORTAL and ready_s > 0.5 * cpu_s:
        pytest.skip("NO SECOND CORE: the threads hardly ever ran at once, so that nothing was hot in the rerun")
    tries = len(counts) // 2  # both reruns are made again where the control's rate of work changed by itself
    assert [count > IMMORTAL for count in counts] == [False, *[False, True] * tries], done.stderr
    proof = profile.proof
    assert proof is not None
    outcome = "its count deferred" if free_threaded_python.minor >= 14 else "frozen"
    assert [(item.object_type, item.outcome) for item in proof.objects] == [("Config", outcome)]
    assert "argument" in proof.objects[0].name
    assert proof.measure == "allocator turns" and proof.proven is not None and proof.control is not None
    assert "never freed" in done.stderr
    report = json.loads(json.dumps(load(tmp_path / "it.gilprobe").to_dict()))
    assert report["proof"]["objects"][0]["predicted"] == proof.predicted
    assert any("frozen in a rerun" in finding["detail"] for finding in report["findings"])
    assert not list((tmp_path / "it.gilprobe" / FOLDER).glob("*.control"))
    assert prove(free_threaded_python, tmp_path, fight=True)[0].returncode == 2  # a recording is not overwritten


def test_nothing_is_rerun_where_no_object_is_hot(free_threaded_python: Python, tmp_path: Path) -> None:
    done, counts = prove(free_threaded_python, tmp_path, fight=False)
    assert done.returncode == 0 and len(counts) == 1
    assert "nothing to prove" in done.stderr
    assert load(tmp_path / "it.gilprobe").proof is None


def test_a_build_with_the_gil_is_refused_before_the_script_runs(gil_python: Python, tmp_path: Path) -> None:
    done, counts = prove(gil_python, tmp_path, fight=True)
    assert done.returncode == 2 and not counts
    assert "free-threaded" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "it.gilprobe").exists()
