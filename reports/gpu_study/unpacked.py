"""What a bare machine lacks, unpacked from build/gpu-carry into a folder of this call's."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from reports.environment import ROOT
from reports.gpu_study.carry import CARRY

LIBRARY = ROOT / "gilprobe" / "native" / "libgilprobe.so"
STARTS_S = 30


class Unpacked:
    """carried_cupti: paths within `site`, the newest first. python_t: the free-threaded interpreter; may be empty."""

    def __init__(self, folder: Path, driver: int) -> None:
        self.site = folder / "site"
        for name in (f"site-{'13' if driver >= 13000 else '12'}.txz", "pure.txz", "python-t.txz"):
            if not (CARRY / name).exists():
                print(f"NOT CARRIED: {name}", flush=True)
                continue
            with tarfile.open(CARRY / name) as packed:
                packed.extractall(folder, filter="data")
        # For this process too: gilprobe's own needs may be missing here.
        sys.path.append(str(folder / "pure"))
        found = self.site.glob("nvidia/*/lib/libcupti.so.1?")
        self.carried_cupti = sorted((str(path.relative_to(self.site)) for path in found), reverse=True)
        python_t = folder / "python-t" / "bin" / "python3.13t"
        starts = python_t.exists() and _said([str(python_t), "-c", "import ctypes, multiprocessing"])
        if starts:
            print(f"NO FREE-THREADED PYTHON: the carried one does not run here: {starts}", flush=True)
        self.python_t = "" if starts or not python_t.exists() else str(python_t)
        if not LIBRARY.exists():
            shutil.copy(CARRY / LIBRARY.name, LIBRARY)
        if said := _said([sys.executable, "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", str(LIBRARY)]):
            print(f"NO RECORDER: {LIBRARY.name} does not load here: {said}", flush=True)

    def use_cupti(self, wanted: str | None) -> None:
        """Leaves only this one of the carried ones to be found; None leaves the machine's own."""
        for name in self.carried_cupti:
            path, hidden = self.site / name, self.site / f"{name}.off"
            if name == wanted and hidden.exists():
                hidden.rename(path)
            elif name != wanted and path.exists():
                path.rename(hidden)


def _said(command: list[str]) -> str:
    """Why it does not run; empty where it does. Built elsewhere, it may want a newer libc."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=STARTS_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip()[-200:] or f"status {done.returncode}" if done.returncode else ""
