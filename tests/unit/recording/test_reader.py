"""A damaged recording is salvaged or refused: never a crash, a hang or an invented thread."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gilprobe.analysis import load
from gilprobe.errors import RecordingError
from gilprobe.launch.target import Options, environment
from gilprobe.recording import read_folder

SCRIPT = """
import threading, time
lock = threading.Lock()
def hold():
    for _ in range(5):
        with lock: time.sleep(0.001)
threads = [threading.Thread(target=hold, name="holder") for _ in range(3)]
for t in threads: t.start()
for t in threads: t.join()
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("recording")
    subprocess.run([sys.executable, "-c", SCRIPT], env=environment(folder, Options(events=True)), check=True)
    (file,) = folder.glob("*.gpr")
    return file.read_bytes()


def put(data: bytes, folder: Path) -> Path:
    file = folder / "1-1.gpr"
    file.write_bytes(data)
    return folder


def test_a_whole_recording_has_its_threads(whole: bytes, tmp_path: Path) -> None:
    profile = load(put(whole, tmp_path))
    assert [thread.name for thread in profile.threads] == ["MainThread", "holder", "holder", "holder"]


def salvage_or_refuse(folder: Path) -> None:
    for salvage in (False, True):
        try:
            profile = load(folder, salvage=salvage)
        except RecordingError as error:
            assert error.message and error.hint and "\n" not in error.message + error.hint
        else:
            assert len(profile.threads) <= 4
            assert profile.to_dict()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1))
def test_truncated_anywhere(whole: bytes, tmp_path: Path, share: float) -> None:
    salvage_or_refuse(put(whole[: int(share * len(whole))], tmp_path))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 7)), min_size=1, max_size=8))
def test_with_flipped_bits(whole: bytes, tmp_path: Path, flips: list[tuple[int, int]]) -> None:
    data = bytearray(whole)
    for at, bit in flips:
        data[at % len(data)] ^= 1 << bit
    salvage_or_refuse(put(bytes(data), tmp_path))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"not a recording at all", "is not a gilprobe recording"),
        (b"gilprobe", "ends within its header"),
        (b"gilprobe" + (99).to_bytes(4, "little") + bytes(5000), "has format 99"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_recording_is_refused_with_the_reason(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(RecordingError, match=says):
        read_folder(put(data, tmp_path))


def test_a_folder_without_recordings_and_a_missing_one(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="holds no recording"):
        read_folder(tmp_path)
    with pytest.raises(RecordingError, match="does not exist"):
        read_folder(tmp_path / os.urandom(4).hex())
