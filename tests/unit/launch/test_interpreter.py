"""An interpreter that ignores LD_PRELOAD is refused, each for its own reason."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gilprobe.errors import TargetError
from gilprobe.launch.interpreter import inspect, obstacle


def copy_of_this_python(folder: Path) -> Path:
    return Path(shutil.copy(os.path.realpath(sys.executable), folder / "python"))


def test_this_interpreter_can_be_recorded(tmp_path: Path) -> None:
    assert obstacle(copy_of_this_python(tmp_path)) is None


def test_setuid_is_refused(tmp_path: Path) -> None:
    python = copy_of_this_python(tmp_path)
    python.chmod(0o4755)
    assert "setuid" in (obstacle(python) or "")


@pytest.mark.parametrize(("at", "value", "says"), [(4, 1, "64-bit"), (18, 40, "x86-64"), (0, 0, "not a program")])
def test_other_machines_are_refused(tmp_path: Path, at: int, value: int, says: str) -> None:
    python = copy_of_this_python(tmp_path)
    data = bytearray(python.read_bytes())
    data[at] = value
    python.write_bytes(data)
    assert says in (obstacle(python) or "")


def test_musl_is_refused(tmp_path: Path) -> None:
    python = copy_of_this_python(tmp_path)
    data = python.read_bytes()
    glibc, musl = b"/lib64/ld-linux-x86-64.so.2", b"/lib/ld-musl-x86_64.so.1"
    assert glibc in data
    python.write_bytes(data.replace(glibc, musl.ljust(len(glibc), b"\0")))
    assert "musl" in (obstacle(python) or "")


def test_static_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "main.c"
    source.write_text("int main(void) { return 0; }\n")
    subprocess.run(["gcc", "-static", "-o", tmp_path / "program", source], check=True, capture_output=True)
    assert "statically" in (obstacle(tmp_path / "program") or "")


def test_an_empty_file_and_a_shell_script(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "wrapper").write_text("#!/bin/sh\nexec python3\n")
    assert obstacle(tmp_path / "empty") == "is not a program"
    assert obstacle(tmp_path / "wrapper") is None


def test_a_bare_name_in_this_folder_is_not_looked_up_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrapper").write_text("#!/bin/sh\n")
    (tmp_path / "wrapper").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert inspect("./wrapper").path == tmp_path / "wrapper"
    with pytest.raises(TargetError, match="not an executable"):
        inspect("wrapper")
