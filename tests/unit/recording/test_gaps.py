"""What a sudden end or a full disk leaves between whole chunks costs nothing that is whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from recordings import CHUNK_BYTES, EXTENT_BYTES, Written, chunk, extent, thread

from gilprobe.analysis import load
from gilprobe.errors import RecordingError
from gilprobe.recording import read_folder, schema

ONE, TWO = chunk(thread(1)), chunk(thread(2))


@pytest.mark.parametrize("start", [b"", bytes(4) + b"\1\0"], ids=["untouched", "its kind, not yet its magic"])
def test_a_chunk_that_its_thread_had_no_time_to_claim_hides_no_other(tmp_path: Path, start: bytes) -> None:
    file = Written([extent(ONE, start.ljust(CHUNK_BYTES, b"\0"), TWO)])
    (recording,) = read_folder(file.into(tmp_path))
    assert set(recording.threads) == {1, 2} and not recording.damage


def test_a_hole_from_when_the_disk_was_full_hides_no_later_extent(tmp_path: Path) -> None:
    file = Written([extent(ONE), bytes(3 * EXTENT_BYTES), extent(TWO), bytes(4096)])
    (recording,) = read_folder(file.into(tmp_path))
    assert set(recording.threads) == {1, 2} and not recording.damage


@pytest.mark.parametrize("at", [schema.HEADER_BYTES, schema.HEADER_BYTES + schema.EXTENT_HEADER.itemsize])
def test_a_damaged_header_is_said_and_later_extents_are_salvaged(tmp_path: Path, at: int) -> None:
    folder = Written([extent(ONE), extent(TWO)]).into(tmp_path)
    (file,) = folder.iterdir()
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    with pytest.raises(RecordingError, match=f"should start .byte {at}.") as raised:
        read_folder(folder)
    assert "--salvage" in raised.value.hint
    profile = load(folder, salvage=True)
    assert [thread.tid for thread in profile.threads] == [102]
    assert any(f"byte {at}" in item.why for item in profile.not_observed)


@pytest.mark.parametrize("left", [b"", bytes(4096)], ids=["empty", "zeros"])
def test_a_process_killed_while_it_made_its_file_costs_no_other(tmp_path: Path, left: bytes) -> None:
    folder = Written([extent(ONE)]).into(tmp_path)
    (folder / "8-2.gpr").write_bytes(left)
    profile = load(folder)
    assert [thread.pid for thread in profile.threads] == [7]
    assert any("8-2.gpr" in item.why for item in profile.not_observed)


def test_one_unusable_file_among_whole_ones_refuses_and_salvages(tmp_path: Path) -> None:
    folder = Written([extent(ONE)]).into(tmp_path)
    (folder / "8-2.gpr").write_bytes(b"something else")
    with pytest.raises(RecordingError, match="is not a gilprobe recording"):
        load(folder)
    assert len(load(folder, salvage=True).threads) == 1


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "1-1.gpr"
    os.mkfifo(pipe)
    with pytest.raises(RecordingError, match="is not a file"):
        read_folder(pipe)
    with pytest.raises(RecordingError, match="is not a file"):
        read_folder(tmp_path)
