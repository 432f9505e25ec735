"""The commands as a person types them: statuses, streams, and two lines for every mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import gilprobe
from pythons import ROOT, Python

SCRIPT = """
import sys, threading, time
lock = threading.Lock()
def hold():
    for _ in range(5):
        with lock: time.sleep(0.002)
threads = [threading.Thread(target=hold) for _ in range(2)]
lock.acquire()
for t in threads: t.start()
def waits(t):
    with open(f"/proc/self/task/{t.native_id}/syscall") as file: return file.read().split()[0] == "202"  # futex
while not all(map(waits, threads)): time.sleep(0.005)
time.sleep(0.05)
lock.release()
for t in threads: t.join()
print(sys.argv[1:], sys.stdin.read())
sys.exit(9)
"""


def test_profile_gives_the_scripts_output_status_and_a_summary(any_python: Python, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = gilprobe("profile", "--html", "page.html", "--python", any_python.executable, "script.py", "--force", "-m",
                    cwd=tmp_path, input="in")  # fmt: skip
    assert (done.stdout, done.returncode) == ("['--force', '-m'] in\n", 9), done.stderr
    assert "lock in hold" in done.stderr and "script.py:6" in done.stderr
    assert max(map(len, done.stderr.splitlines())) <= 80
    assert "lock in hold" in (tmp_path / "page.html").read_text()
    (recording,) = tmp_path.glob("script.*.gilprobe")
    report = gilprobe("report", recording, "-f", "json", cwd=tmp_path)
    assert json.loads(report.stdout)["waits"]


def test_modules_and_code_run_as_python_runs_them(any_python: Python, tmp_path: Path) -> None:
    (tmp_path / "tool.py").write_text("import sys; print(__name__, sys.argv[1:])")
    for arguments in (["-m", "tool", "-x"], ["-c", "import sys; print(sys.argv)", "-x"]):
        plain = subprocess.run(
            [any_python.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        done = gilprobe(
            "profile", "--python", any_python.executable, "-q", "-o", f"r{arguments[0]}", *arguments, cwd=tmp_path
        )
        assert (done.stdout, done.returncode) == (plain.stdout, 0), done.stderr


def test_a_script_whose_path_is_no_utf8_has_its_locks_named_as_any_other(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "script.py").write_text(SCRIPT)
    done = gilprobe("profile", "--html", "page.html", "-o", "r", f"{folder}/script.py", cwd=tmp_path, input="")
    assert done.returncode == 9 and "lock in hold" in done.stderr, done.stderr
    assert "lock in hold" in (tmp_path / "page.html").read_text()
    report = gilprobe("report", "r", "-f", "json", cwd=tmp_path)
    assert f"{tmp_path}/caf\ufffd/script.py" in {
        frame["file"] for frame in json.loads(report.stdout)["waits"][0]["waiter"]
    }


def test_a_signal_to_gilprobe_reaches_the_script(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *a: sys.exit(5)); "
        "print('up', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "gilprobe", "profile", "-q", "-o", tmp_path / "r", "-c", code], stdout=subprocess.PIPE,
        text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=300) == 5


def test_signals_ignored_by_the_shell_stay_ignored(any_python: Python, tmp_path: Path) -> None:
    code = "import signal; print([int(s) for s in signal.valid_signals() if signal.getsignal(s) == signal.SIG_IGN])"
    python = any_python.executable
    words = [sys.executable, "-m", "gilprobe", "profile", "-q", "-o", str(tmp_path / "r"), "--python", python]
    for ignored in ("", "trap '' HUP INT TERM;"):
        plain, profiled = (
            subprocess.run(
                ["bash", "-c", f'{ignored} "$@"', "bash", *command, "-c", code],
                cwd=ROOT, capture_output=True, text=True, timeout=300, check=True,
            ).stdout
            for command in ([python], [*words, "--force"])
        )  # fmt: skip
        assert plain == profiled and plain.startswith("[")


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_closed_stream_stays_closed_for_the_script(any_python: Python, tmp_path: Path, redirection: str) -> None:
    code = "import sys; sys.exit(64 + 4 * (sys.stdin is None) + 2 * (sys.stdout is None) + (sys.stderr is None))"
    words = [sys.executable, "-m", "gilprobe", "profile", "-o", str(tmp_path / "r"), "--python", any_python.executable]
    plain, profiled = (
        subprocess.run(
            ["bash", "-c", f'"$@" {redirection}', "bash", *command, "-c", code],
            cwd=ROOT, capture_output=True, timeout=300, check=False,
        ).returncode
        for command in ([any_python.executable], words)
    )  # fmt: skip
    assert plain == profiled > 64


def test_a_full_disk_behind_the_streams(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        words = [sys.executable, "-m", "gilprobe"]
        profiled = [*words, "profile", "-o", str(tmp_path / "r"), "-c", "raise SystemExit(4)"]
        assert subprocess.run(profiled, cwd=ROOT, stderr=full, timeout=300, check=False).returncode == 4
        done = subprocess.run([*words, "report", str(tmp_path / "r")], cwd=ROOT, stdout=full, stderr=subprocess.PIPE,
                              text=True, timeout=300, check=False)  # fmt: skip
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 2 and "No space left" in done.stderr


MISTAKES = [
    (["profile"], 2, "no script given"),
    (["profile", "missing.py"], 2, "missing.py does not exist"),
    (["profile", "."], 2, "is a folder without __main__.py"),
    (["profile", sys.executable], 2, "is not a Python script"),
    (["profile", "--rate", "100000", "-c", "pass"], 2, "100000"),
    (["profile", "-c", "pass", "--python", "x"], 0, ""),
    (["profile", "--python", "no-such-python", "-c", "pass"], 2, "no-such-python is not an executable"),
    (["profile", "-o", "there", "-c", "pass"], 2, "there exists"),
    (["profile", "-o", "there", "--force", "-c", "pass"], 2, "there is not a recording"),
    (["profile", "-o", "no/such/folder", "-c", "pass"], 2, "does not exist"),
    (["profile", "--html", "no/page.html", "-c", "pass"], 2, "does not exist"),
    (["profile", "--html", "there", "--force", "-c", "print('ran')"], 2, "there is a folder"),
    (["report", "missing"], 3, "missing does not exist"),
    (["report", "there"], 3, "there holds no recording"),
    (["report", "there/file.txt"], 3, "is not a gilprobe recording"),
    (["report", "there", "-o", "x.unknown"], 2, "does not tell its format"),
    (["check", "there"], 2, "nothing to check"),
    (["check", "there", "--max-wait", "lock=much"], 2, "much is no percentage"),
    (["check", "there", "--max-wait", "luck=5%"], 2, "no kind of wait called luck"),
    (["check", "there", "--max-wait", "lock=5%"], 3, "holds no recording"),
    (["nonsense"], 2, "nonsense"),
]


@pytest.mark.parametrize(
    ("arguments", "status", "says"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else None
)
def test_a_mistake_gets_one_line_on_what_and_one_on_what_to_do(
    tmp_path: Path, arguments: list[str], status: int, says: str
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file.txt").write_text("precious")
    done = gilprobe(*arguments, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    if status:
        lines = done.stderr.splitlines()
        assert not done.stdout, "the script ran before the mistake was told"
        assert len(lines) == 2 and lines[0].startswith("gilprobe: ") and says in lines[0], done.stderr
    assert (tmp_path / "there" / "file.txt").read_text() == "precious"


def test_check_fails_a_build_that_waits_too_much(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.replace("sys.exit(9)", ""))
    assert gilprobe("profile", "-q", "-o", "r", "script.py", cwd=tmp_path, input="").returncode == 0
    over = gilprobe("check", "r", "--max-wait", "lock=0.1%", cwd=tmp_path)
    assert over.returncode == 1 and "OVER  lock" in over.stdout and "script.py:6" in over.stdout
    assert gilprobe("check", "r", "--max-wait", "object=1%", cwd=tmp_path).returncode == 0


def test_doctor_names_what_is_there(any_python: Python, tmp_path: Path) -> None:
    done = gilprobe("doctor", "--json", "--python", any_python.executable, "json", "no_such_module", cwd=tmp_path)
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert checks["preloading"]["state"] == "ok" and done.returncode == 0
    assert any_python.version in checks["interpreter"]["detail"]
    assert "failed" in checks["import no_such_module"]["detail"]
    assert ("GIL" in checks) == any_python.free_threaded
    if "not installed" in (spy := checks["py-spy"])["detail"]:
        pytest.skip("NO PY-SPY: it is not installed, so whether doctor tries it is not tested")
    assert spy["state"] == ("limited" if any_python.free_threaded else "ok"), spy["detail"]
