"""The recording is readable however the script ends, and the script goes on whatever happens to the recording."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from compiled import shared_library
from pythons import Python

from gilprobe.analysis import load
from gilprobe.launch.target import Options, environment
from gilprobe.model import Profile

THREADS = """
import ctypes, os, signal, subprocess, sys, threading, time
lock = threading.Lock()
def hold(gate):
    for _ in range(10):
        gate.wait()
        with lock: time.sleep(0.002)
        time.sleep(0.0005)
def contend():
    gate = threading.Barrier(2)
    threads = [threading.Thread(target=hold, args=(gate,)) for _ in range(2)]
    for t in threads: t.start()
    for t in threads: t.join()
"""


# More threads at once than a small recording has room for.
CROWD = """
barrier = threading.Barrier(201)
threads = [threading.Thread(target=lambda: (contend() if i == 0 else None, barrier.wait())) for i in range(200)]
for t in threads: t.start()
barrier.wait()
for t in threads: t.join()
print("whole")
"""


def profile_of(
    python: Python, code: str, folder: Path, *, check: bool = True, rate_hz: int = 0
) -> tuple[Profile, subprocess.CompletedProcess[str]]:
    folder.mkdir(exist_ok=True)
    script = folder.parent / "script.py"
    script.write_text(THREADS + code)
    done = subprocess.run(
        [python.executable, str(script)],
        env=environment(folder, Options(rate_hz=rate_hz)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if check:
        assert done.returncode == 0, done.stderr
    return load(folder), done


def lock_waits(profile: Profile) -> int:
    return sum(wait.count for wait in profile.waits if wait.kind == "lock")


@pytest.mark.parametrize(
    "end",
    ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(3)", "ctypes.string_at(0)", "os.abort()", "raise SystemExit(4)"],
)
def test_waits_before_a_sudden_end_are_there(every_python: Python, tmp_path: Path, end: str) -> None:
    profile, _ = profile_of(every_python, f"contend()\n{end}\n", tmp_path / "r", check=False)
    assert lock_waits(profile) >= 2
    assert "lock in hold" in {wait.name for wait in profile.waits if wait.kind == "lock"}


def test_a_deadlock_is_reported_as_open_waits(every_python: Python, tmp_path: Path) -> None:
    code = """
a, b = threading.Lock(), threading.Lock()
ready = threading.Barrier(2)
def one():
    with a: ready.wait(); b.acquire()
def two():
    with b: ready.wait(); a.acquire()
for f in (one, two): threading.Thread(target=f, name=f.__name__, daemon=True).start()
time.sleep(0.3)
os.kill(os.getpid(), signal.SIGKILL)
"""
    profile, _ = profile_of(every_python, code, tmp_path / "r", check=False)
    waiting = {thread.name: thread.open_wait for thread in profile.threads if thread.open_wait}
    assert {"one", "two"} <= set(waiting)
    assert waiting["one"].kind == waiting["two"].kind == "lock"
    assert waiting["one"].name == "b in one" and waiting["two"].name == "a in two"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_each_child_process_leaves_its_own_recording(every_python: Python, tmp_path: Path, method: str) -> None:
    code = f"""
import multiprocessing
if __name__ == "__main__":
    children = [multiprocessing.get_context("{method}").Process(target=contend) for _ in range(2)]
    for child in children: child.start()
    for child in children: child.join()
    print(*(child.pid for child in children))
"""
    profile, done = profile_of(every_python, code, tmp_path / "r")
    children = {int(pid) for pid in done.stdout.split()}
    assert children <= {process.pid for process in profile.processes}
    assert lock_waits(profile) >= 4


def test_subprocesses_and_replaced_processes_are_recorded(every_python: Python, tmp_path: Path) -> None:
    code = """
if len(sys.argv) == 1:
    subprocess.run([sys.executable, __file__, "child"], check=True)
    subprocess.run(["/bin/sh", "-c", "exit 0"], check=True)
    contend()
    os.execv(sys.executable, [sys.executable, __file__, "replaced"])
contend()
"""
    profile, _ = profile_of(every_python, code, tmp_path / "r")
    assert len(profile.processes) == 3
    assert lock_waits(profile) >= 6


# What a child of vfork does until it ends, in its parent's memory: calls that are hooked, some of which wait.
VFORKS = """
#include <pthread.h>
#include <semaphore.h>
#include <time.h>
#include <unistd.h>
#include <sys/wait.h>
int vfork_waits(void) {
    sem_t never;
    sem_init(&never, 0, 0);
    pid_t child = vfork();
    if (child == 0) {
        struct timespec until, little = {0, 20000000};
        for (int i = 0; i < 5; i++) {
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += until.tv_nsec < 980000000 ? 20000000 : 0;
            sem_timedwait(&never, &until);
            nanosleep(&little, 0);
        }
        sem_post(&never);
        _exit(7);
    }
    int status;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}
"""


def test_a_vfork_child_writes_nothing_into_its_parents_recording(any_python: Python, tmp_path: Path) -> None:
    code = f"""
library = ctypes.PyDLL({str(shared_library(VFORKS, tmp_path))!r})
assert [library.vfork_waits() for _ in range(3)] == [7] * 3
subprocess.run([sys.executable, "-c", "import time; time.sleep(0.01)"], check=True, close_fds=False)
child = os.posix_spawn(sys.executable, [sys.executable, "-c", "import time; time.sleep(0.01)"], os.environ)
os.waitpid(child, 0)
contend()
"""
    profile, _ = profile_of(any_python, code, tmp_path / "r")
    assert len(profile.processes) == 3  # those that vfork made and that became another program have their own
    waited = [wait for wait in profile.waits if any(site.function == "<module>" for site in wait.waiter)]
    assert not [wait for wait in waited if "vfork_waits" in str(wait) or wait.kind == "native"], waited
    assert lock_waits(profile) >= 2  # the parent is recorded on
    ended = [process.end for process in profile.processes]
    assert len(set(ended)) == 1, ended


def test_fork_from_a_worker_thread(every_python: Python, tmp_path: Path) -> None:
    code = """
import warnings; warnings.simplefilter("ignore")
def forks():
    pid = os.fork()
    if pid == 0:
        contend()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
thread = threading.Thread(target=forks); thread.start(); thread.join()
"""
    profile, _ = profile_of(every_python, code, tmp_path / "r")
    assert len(profile.processes) == 2
    assert lock_waits(profile) >= 2


@pytest.mark.parametrize(
    "hostility",
    [
        "os.closerange(3, 1024)",
        "os.chdir('/')",
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))",
        "os.environ.clear()",
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
        "signal.setitimer(signal.ITIMER_PROF, 0.01, 0.01); signal.signal(signal.SIGPROF, lambda *a: None)",
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "sys.setswitchinterval(1e-5)",
    ],
)
def test_what_a_script_may_do_to_itself(every_python: Python, tmp_path: Path, hostility: str) -> None:
    profile, done = profile_of(
        every_python,
        f"{hostility}\ncontend()\nsignal.setitimer(signal.ITIMER_PROF, 0)\nprint('whole')\n",
        tmp_path / "r",
    )
    assert done.stdout == "whole\n" and done.stderr == ""
    assert lock_waits(profile) >= 2


def test_a_thread_that_blocks_all_signals_is_named_as_unsampled(every_python: Python, tmp_path: Path) -> None:
    code = """
def blocks():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    end = time.thread_time() + 0.5
    while time.thread_time() < end: pass
thread = threading.Thread(target=blocks, name="deaf"); thread.start(); thread.join()
"""
    profile, _ = profile_of(every_python, code, tmp_path / "r", rate_hz=100)
    assert len([item for item in profile.not_observed if "blocks" in item.why]) == 1


def test_the_script_goes_on_when_the_recordings_folder_goes(every_python: Python, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    script = tmp_path / "script.py"
    script.write_text(
        THREADS
        + f"import shutil; shutil.rmtree({str(folder)!r})\n"
        + "for _ in range(300): threading.Thread(target=contend if _ == 0 else int).start()\nprint('whole')\n"
    )
    done = subprocess.run(
        [every_python.executable, script],
        env=environment(folder, Options()),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr


def test_a_full_file_is_reported_as_lost_records(every_python: Python, tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (270336, 270336))\n"
    profile, done = profile_of(every_python, limit + CROWD, tmp_path / "r")
    assert done.stdout == "whole\n"
    assert any("records" in item.what for item in profile.not_observed)


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own, as large as the parameter says."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "gilprobe-test", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"NO SMALL DISK: mount is refused here ({mounted.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


# 4k is full once the recording has its header, 512k when some of the threads have their place in it.
@pytest.mark.parametrize("disk", ["4k", "512k"], indirect=True)
def test_a_full_disk_does_not_stop_the_script(every_python: Python, disk: Path) -> None:
    script = disk.parent / "script.py"
    script.write_text(THREADS + CROWD)
    folder = disk / "r"
    folder.mkdir()
    done = subprocess.run(
        [every_python.executable, script], env=environment(folder, Options()),
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "whole\n", "")
    assert any("records" in item.what for item in load(folder).not_observed)


def test_two_thousand_threads(any_python: Python, tmp_path: Path) -> None:
    code = """
threading.stack_size(256 * 1024)
go = threading.Event()
threads = [threading.Thread(target=go.wait) for _ in range(2000)]
for t in threads: t.start()
go.set()
for t in threads: t.join()
"""
    profile, _ = profile_of(any_python, code, tmp_path / "r")
    assert len(profile.threads) == 2001
    assert not any("records" in item.what for item in profile.not_observed)
    assert sum(path.stat().st_size for path in (tmp_path / "r").iterdir()) < 80e6


def test_subinterpreters(every_python: Python, tmp_path: Path) -> None:
    if every_python.minor < 13:
        pytest.skip("before 3.13 an isolated subinterpreter may not start threads")
    code = """
import _interpreters
_interpreters.exec(_interpreters.create(), '''
import threading, time
lock = threading.Lock()
def hold_in_subinterpreter():
    for _ in range(10):
        with lock: time.sleep(0.002)
        time.sleep(0.0005)
threads = [threading.Thread(target=hold_in_subinterpreter) for _ in range(2)]
for t in threads: t.start()
for t in threads: t.join()
''')
"""
    profile, _ = profile_of(every_python, code, tmp_path / "r")
    waiting = [wait for wait in profile.waits if wait.kind == "lock" and wait.waiter]
    assert any(wait.waiter[0].function == "hold_in_subinterpreter" for wait in waiting)


def test_thread_names_of_any_script(every_python: Python, tmp_path: Path) -> None:
    names = ["höld", "線程", "\U0001f40d", "a" * 300]
    profile, _ = profile_of(
        every_python,
        f"for n in {names!r}: t = threading.Thread(target=time.sleep, args=(0.01,), name=n); t.start(); t.join()\n",
        tmp_path / "r",
    )
    found = [thread.name for thread in profile.threads][1:]
    assert found[:3] == names[:3] and found[3] == "a" * 96, os.fspath(tmp_path)


def test_without_room_for_pending_signals_perf_does_not_end_the_script(every_python: Python, tmp_path: Path) -> None:
    script = tmp_path / "burn.py"
    script.write_text("import time\nwhile time.process_time() < 0.3: pass\nprint('whole')\n")
    command = [sys.executable, "-m", "gilprobe", "profile", "-q", "--rate", "500", "-o", str(tmp_path / "r")]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -i 0; exec "$@"', "bash", *command, "--python", every_python.executable, script],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr
    missing = [item.what for item in load(tmp_path / "r").not_observed]
    assert any(what.startswith(("perf in", "CPU samples of")) for what in missing), missing


def test_a_script_that_drops_its_privileges_goes_on(every_python: Python, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("NOT ROOT: no privileges to drop")
    code = "contend()\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n" + CROWD
    profile, done = profile_of(every_python, code, tmp_path / "r", rate_hz=100)
    assert (done.stdout, done.stderr) == ("whole\n", "")
    assert lock_waits(profile) >= 2
    (lost,) = [item for item in profile.not_observed if "records" in item.what]
    assert "ermission" in lost.why, lost


JEMALLOC = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"


@pytest.fixture(scope="session")
def jemalloc(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Installed, or unpacked from its Debian package without being installed."""
    if Path(JEMALLOC).exists():
        return JEMALLOC
    folder = tmp_path_factory.mktemp("jemalloc")
    try:
        got = subprocess.run(
            ["apt-get", "download", "libjemalloc2"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        why = got.stderr.strip() or "apt-get download gave nothing"
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, folder], check=True)
    except (OSError, subprocess.SubprocessError) as error:
        why = str(error)
    found = [*folder.rglob("libjemalloc.so.2")]
    if not found:
        pytest.skip(f"NO JEMALLOC: its package cannot be had ({why[-200:]})")
    return str(found[0])


@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
def test_beside_jemalloc(any_python: Python, tmp_path: Path, jemalloc: str, first: bool) -> None:
    code = """
if len(sys.argv) == 1:
    subprocess.run([sys.executable, __file__, "child"], check=True)
contend()
used = [line for line in open("/proc/self/maps") if "jemalloc" in line and "x" in line.split()[1]]
print("whole" if used and ctypes.CDLL(None).malloc_stats_print else "none", flush=True)
"""
    (tmp_path / "r").mkdir()
    script = tmp_path / "script.py"
    script.write_text(THREADS + code)
    variables = environment(tmp_path / "r", Options(rate_hz=500))
    ours = variables["LD_PRELOAD"]
    variables["LD_PRELOAD"] = f"{jemalloc}:{ours}" if first else f"{ours}:{jemalloc}"
    done = subprocess.run(
        [any_python.executable, script], env=variables, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "whole\nwhole\n", "")
    profile = load(tmp_path / "r")
    assert len(profile.processes) == 2 and lock_waits(profile) >= 4
