"""Real recordings in other tools' formats: they read them, and their sums are the report's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from commands import gilprobe
from pythons import Python
from readers import read_by_speedscope, sarif_schema
from readers.gecko import read_gecko, stack_of
from readers.pprof import read_pprof
from readers.trace_events import read_trace

from gilprobe.analysis import load
from gilprobe.render import format_of, write_report

NAME = "worker </script>\u202e"
SCRIPT = f"""
import threading, time
lock = threading.Lock()
def work():
    for _ in range(15):
        with lock:
            time.sleep(0.003)
        sum(range(30000))
threads = [threading.Thread(target=work, name={NAME!r}) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
FORMATS = ("run.json", "run.speedscope.json", "run.gecko.json", "run.trace.json", "run.sarif")


def whole(*arguments: str, cwd: Path) -> None:
    done = gilprobe(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr


def test_every_format_of_a_real_recording_is_read_by_its_reader(any_python: Python, tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(SCRIPT)
    python = ("--python", any_python.executable)
    whole("profile", "-q", "--events", "--sampler", "native", "-o", "r", *python, "run.py", cwd=tmp_path)
    whole("report", "r", "-f", "pprof", "-o", "run.pb.gz", cwd=tmp_path)
    profile = load(tmp_path / "r")
    for name in FORMATS:
        write_report(profile, format_of(Path(name)), tmp_path / name)
    report = json.loads((tmp_path / "run.json").read_text())
    waits = [wait for wait in report["waits"] if wait["idle"] is False]
    locked = [wait for wait in waits if wait["kind"] == "lock"]
    assert locked and locked[0]["waiter"], "the planted lock was not seen"

    pprof = read_pprof((tmp_path / "run.pb.gz").read_bytes())
    assert sum(sample.value[0] for sample in pprof.sample) == sum(wait["count"] for wait in waits)
    assert sum(sample.value[1] for sample in pprof.sample) / 1e9 == pytest.approx(sum(w["total_s"] for w in waits))

    _firefox(read_gecko((tmp_path / "run.gecko.json").read_text()), locked)
    _perfetto(read_trace((tmp_path / "run.trace.json").read_text()), locked)
    (read,) = read_by_speedscope(tmp_path / "run.speedscope.json")
    assert sum(profile["self"].get("[wait: lock]||", 0) for profile in read["profiles"]) == pytest.approx(
        sum(wait["total_s"] for wait in locked)
    )
    assert json.loads((tmp_path / "run.sarif").read_text())["runs"][0]["results"] == []


RACY = """
import threading
class Counter:
    def __init__(self):
        self.value = 0
        self.lock = threading.Lock()
    def add(self):
        value = self.value
        self.value = value + 1
        return self.value
class Locked(Counter):
    def add(self):
        with self.lock:
            return super().add()
"""


def test_a_race_that_exploring_finds_is_in_sarif_and_its_twin_clears_it(tmp_path: Path) -> None:
    (tmp_path / "racy.py").write_text(RACY)
    results = {}
    for name, status in (("Counter", 1), ("Locked", 0)):
        explore = ["explore", f"racy.py:{name}", "--budget", "5", "--sarif", f"{name}.sarif"]
        command = [sys.executable, "-m", "gilprobe", *explore]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        log = json.loads((tmp_path / f"{name}.sarif").read_text())
        jsonschema.validate(log, sarif_schema())
        results[name] = log["runs"][0]["results"]
    assert results["Locked"] == []
    (race,) = results["Counter"]
    lines = {place["physicalLocation"]["region"]["startLine"] for place in race["relatedLocations"]}
    assert race["ruleId"] == "race" and lines == {8, 9} and "racing pair" in race["message"]["text"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2 and "Locked.sarif exists" in done.stderr


def _firefox(profile: dict[str, Any], locked: list[dict[str, Any]]) -> None:
    texts, found_ms, stacks = profile["shared"]["stringArray"], 0.0, set()
    for thread in profile["threads"]:
        markers = thread["markers"]
        for at, name in enumerate(markers["name"]):
            if texts[name] == "wait: lock":
                found_ms += markers["endTime"][at] - markers["startTime"][at]
                stacks.add(tuple(stack_of(profile, markers["data"][at]["cause"]["stack"])))
    assert found_ms / 1e3 == pytest.approx(sum(wait["total_s"] for wait in locked), rel=1e-6)
    assert tuple(frame["function"] for frame in locked[0]["waiter"]) in stacks
    assert [thread["name"] for thread in profile["threads"]].count(NAME.replace("\u202e", "\ufffd")) == 3


def _perfetto(trace: dict[str, Any], locked: list[dict[str, Any]]) -> None:
    waits = [event for event in trace["traceEvents"] if event.get("cat") == "wait,lock"]
    assert len(waits) == sum(wait["count"] for wait in locked)
    assert sum(event["dur"] for event in waits) / 1e6 == pytest.approx(sum(wait["total_s"] for wait in locked))
    assert any(event["ph"] == "s" for event in trace["traceEvents"]), "no arrow from a releaser"
