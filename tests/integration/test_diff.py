"""gilprobe diff on real recordings: a planted change is found with its line, and unlike recordings are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import gilprobe

SIDE = range(1, 6)
SCRIPT = """
import sys, threading, time
lock = threading.Lock()
def work():
    for _ in range(4):
        with lock:
            time.sleep(HOLD_S)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """before-1 to -5 hold the lock for 30 ms at a time; after-1 to -5 for 1 ms; other is another script."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, script, hold_s in (
        *((f"before-{number}", "run.py", 0.03) for number in SIDE),
        *((f"after-{number}", "run.py", 0.001) for number in SIDE),
        ("other", "walk.py", 0.001),
    ):
        (folder / script).write_text(SCRIPT.replace("HOLD_S", str(hold_s)))
        done = gilprobe("profile", "-q", "-o", name, script, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def test_a_planted_change_is_found_with_its_line(recordings: Path) -> None:
    before, after = ([f"{side}-{number}" for number in SIDE] for side in ("before", "after"))
    done = gilprobe("diff", *before, "--", *after, cwd=recordings)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Wall time")
    assert any(line.startswith("* waited, all threads") for line in lines)
    assert "run.py:6 in work" in done.stdout
    assert max(map(len, lines)) <= 100


def test_two_recordings_make_no_claim_about_chance(recordings: Path) -> None:
    done = gilprobe("diff", "before-1", "after-1", cwd=recordings)
    assert done.returncode == 0 and "no interval can be had" in done.stdout and "*" not in done.stdout


def test_unlike_recordings_are_refused_unless_forced(recordings: Path) -> None:
    done = gilprobe("diff", "before-1", "other", cwd=recordings)
    assert done.returncode == 2 and "the script run.py and walk.py" in done.stderr and not done.stdout
    done = gilprobe("diff", "--force", "before-1", "other", cwd=recordings)
    assert done.returncode == 0 and done.stdout.startswith("Made differently: the script run.py and walk.py\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no recordings were given"),
        (["before-1"], "1 recordings do not tell the sides"),
        (["before-1", "before-2", "after-1"], "3 recordings do not tell the sides"),
        (["--", "after-1"], "a side has no recording"),
        (["before-1", "before-1"], "before-1 was given twice"),
    ],
)
def test_sides_that_are_not_told_are_a_usage_error(recordings: Path, arguments: list[str], said: str) -> None:
    done = gilprobe("diff", *arguments, cwd=recordings)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 2
