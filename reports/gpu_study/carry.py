"""python -m reports.gpu_study.carry: builds build/gpu-carry, all that a bare GPU machine needs."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from gilprobe.errors import GilprobeError
from reports.demo import pictures
from reports.environment import ROOT, interpreters

CARRY = Path(os.environ.get("GILPROBE_GPU_CARRY") or ROOT / "build" / "gpu-carry")
MOST_BYTES = 35 << 20
PICTURES = 48
# What each wheel gives: ends of names. All else (other Pythons, codecs that are not JPEG, headers) stays behind.
WHEELS = {
    "13": (
        ("nvidia-nvimgcodec-cu13==0.9.0.20", ("cpython-312-x86_64-linux-gnu.so", "cpython-313t-x86_64-linux-gnu.so",
         "nvidia/__init__.py", "nvimgcodec/__init__.py", "libnvimgcodec.so.0", "libnvjpeg_ext.so.0.9.0")),
        ("nvidia-nvjpeg==13.3.2.43", ("libnvjpeg.so.13",)),
        ("nvidia-cuda-cupti==13.5.25", ("libcupti.so.13",)),
        # The oldest that records context switches: the newest may refuse an older driver. Found after it, by its name.
        ("nvidia-cuda-cupti==13.1.115", ("libcupti.so.13",), "nvidia/also-13.1/lib"),
    ),
    "12": (
        ("nvidia-nvimgcodec-cu12==0.9.0.20", ("cpython-312-x86_64-linux-gnu.so", "cpython-313t-x86_64-linux-gnu.so",
         "nvidia/__init__.py", "nvimgcodec/__init__.py", "libnvimgcodec.so.0", "libnvjpeg_ext.so.0.9.0")),
        ("nvidia-nvjpeg-cu12==12.4.0.76", ("libnvjpeg.so.12",)),
        ("nvidia-cuda-cupti-cu12==12.9.79", ("libcupti.so.12",)),
    ),
}  # fmt: skip
# What gilprobe itself imports, for Python 3.12; numpy and jinja2 come with the machine's torch.
PURE = ("click", "rich", "markdown-it-py", "mdurl", "pygments", "pyelftools", "capstone")
LEFT_OUT = ("test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "__pycache__", "config-", "turtledemo")


def main() -> None:
    """Both CUDA generations: which one serves is known only on the machine, by its driver. Raises GilprobeError where
    it grows too large or a part cannot be had."""
    shutil.rmtree(CARRY, ignore_errors=True)
    CARRY.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for cuda, wheels in WHEELS.items():
            for requirement, wanted, *elsewhere in wheels:
                _take(_wheel(requirement, folder), wanted, folder / cuda, *elsewhere)
            _pack(folder / cuda, "site", CARRY / f"site-{cuda}.txz")
        for requirement in PURE:
            _take(_wheel(requirement, folder, "--python-version", "3.12", "--only-binary", ":all:"), None,
                  folder / "pure")  # fmt: skip
        _pack(folder / "pure", "pure", CARRY / "pure.txz")
    files = [path.read_bytes() for path in sorted(pictures.make().glob("*.jpg"))[:PICTURES]]
    (CARRY / "pictures.pickle").write_bytes(pickle.dumps(files))
    _free_threaded()
    shutil.copy(ROOT / "gilprobe" / "native" / "libgilprobe.so", CARRY)
    subprocess.run(["strip", "--strip-debug", CARRY / "libgilprobe.so"], check=True)
    size = sum(path.stat().st_size for path in CARRY.rglob("*") if path.is_file())
    print(f"{CARRY}: {size / 2**20:.1f} MiB for CUDA {' and '.join(sorted(WHEELS))}")
    if size > MOST_BYTES:
        raise GilprobeError(f"{CARRY} has {size} bytes, {MOST_BYTES} may be carried", "Leave out more in carry.py.")


def _pack(folder: Path, name: str, path: Path) -> None:
    for library in folder.rglob("*.so*"):
        subprocess.run(["strip", "--strip-debug", library], check=False, capture_output=True)
    with tarfile.open(path, "w:xz") as packed:
        packed.add(folder, name)


def _wheel(requirement: str, folder: Path, *options: str) -> Path:
    own = folder / requirement.replace("=", "_")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(own), *options, requirement]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    wheels = list(own.glob("*.whl"))
    if done.returncode or not wheels:
        raise GilprobeError(f"{requirement} cannot be downloaded", done.stderr.strip().splitlines()[-1][:200])
    return wheels[0]


def _take(wheel: Path, wanted: tuple[str, ...] | None, folder: Path, elsewhere: str = "") -> None:
    """elsewhere: the folder for all of it, in place of the wheel's own."""
    with zipfile.ZipFile(wheel) as packed:
        names = [n for n in packed.namelist() if wanted is None or n.endswith(wanted)]
        if wanted and len({end for end in wanted for n in names if n.endswith(end)}) < len(wanted):
            raise GilprobeError(f"{wheel.name} lacks one of {', '.join(wanted)}", "Adapt carry.py to this version.")
        if not elsewhere:
            packed.extractall(folder, names)
            return
        (folder / elsewhere).mkdir(parents=True)
        for name in names:
            (folder / elsewhere / Path(name).name).write_bytes(packed.read(name))


def _free_threaded() -> None:
    """The free-threaded interpreter that set-up built, without tests and debug information, as python-t.txz."""
    found = [item for item in interpreters() if item["free_threaded"] and item["label"].startswith("3.13")]
    if not found:
        print("NO FREE-THREADED 3.13: its part of the study will be left out")
        return
    executable = Path(found[0]["executable"]).resolve()
    root = executable.parent.parent
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "python-t"
        (copy / "bin").mkdir(parents=True)
        shutil.copy(executable, copy / "bin" / "python3.13t")
        source = root / "lib" / "python3.13t"
        shutil.copytree(source, copy / "lib" / "python3.13t", ignore=_ignored, symlinks=True)
        for library in root.glob("lib/libpython3.13t.so*"):
            shutil.copy(library, copy / "lib", follow_symlinks=True)
        for binary in [copy / "bin" / "python3.13t", *copy.rglob("*.so*")]:
            subprocess.run(["strip", "--strip-unneeded", binary], check=False, capture_output=True)
        with tarfile.open(CARRY / "python-t.txz", "w:xz") as packed:
            packed.add(copy, "python-t")


def _ignored(folder: str, names: list[str]) -> set[str]:
    return {n for n in names if n.startswith(LEFT_OUT) or n == "site-packages" or n.endswith((".a", ".pyc"))}


if __name__ == "__main__":
    try:
        main()
    except GilprobeError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
