"""gilprobe.profile: recording begins and ends in a program that runs already."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from gilprobe.errors import GilprobeError, PlatformError, UsageError
from gilprobe.native_library import library
from gilprobe.record import spans
from gilprobe.record.folder import default_name, make_folder, remove_empty

DEFAULT_HZ, MOST_HZ = 100, 5000
BUSY, NO_PYTHON = 16, 38  # errno's EBUSY, ENOSYS

_one_at_a_time = threading.Lock()


class profile:
    """Records every wait of every thread of this program, those that run already included.

        with gilprobe.profile("run.gilprobe") as recording:
            work()
        print(gilprobe.load(recording.path).findings)

    path: folder for the recording; SCRIPT.DATE-PID.gilprobe where none is given. rate_hz: CPU samples a second, 100
    unless given, 0 = none. events: keep every single wait. `start` and `stop` do what the with block does.

    Nothing is preloaded: the import tables of the program and of its libraries are rewritten at the start and put back
    at the end. Processes forked meanwhile are recorded too, programs that are run by them are not.

    Raises GilprobeError where the program is being recorded already, OutputError where `path` exists and `force` is
    false or it cannot be made, PlatformError elsewhere than on Linux x86-64.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        events: bool = False,
        rate_hz: int | None = None,
        force: bool = False,
    ) -> None:
        if rate_hz is not None and not 0 <= rate_hz <= MOST_HZ:
            raise UsageError(f"rate_hz is {rate_hz}", f"Give a number from 0 (no samples) to {MOST_HZ}.")
        self.path = Path(path) if path is not None else default_name(_program()).absolute()
        self._options = f"events={int(events)},rate={DEFAULT_HZ if rate_hz is None else rate_hz}"
        self._force = force
        self._library: Any = None

    def start(self) -> profile:
        with _one_at_a_time:
            _check()
            make_folder(self.path, self._force, overwrite_by="force=True")
            try:
                self._library = _begin(self.path, self._options)
            except GilprobeError:
                remove_empty(self.path)
                raise
        return self

    def stop(self) -> None:
        """Ends the recording; the second time it does nothing. The program goes on as before it began."""
        with _one_at_a_time:
            library, self._library = self._library, None
            if library is not None:
                _end(library)

    def __enter__(self) -> profile:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class parts:
    """Recordings one after the other in one folder, which exists: a file each. For the pytest plugin."""

    def __init__(self, folder: Path, *, rate_hz: int) -> None:
        self.folder = folder
        self._options = f"rate={rate_hz}"
        self._library: Any = None

    def start(self) -> None:
        with _one_at_a_time:
            _check()
            self._library = _begin(self.folder, self._options)

    def stop(self) -> None:
        with _one_at_a_time:
            library, self._library = self._library, None
            if library is not None:
                _end(library)


def _check() -> None:
    if spans.connected():
        raise _recorded_already()
    _load()


def _begin(folder: Path, options: str) -> Any:
    library = _load()
    status = library.gilprobe_start(os.fsencode(folder.absolute()), options.encode())
    if status:
        raise _refused(-status)
    spans.connect(library)
    return library


def _end(library: Any) -> None:
    spans.connect(None)
    left = library.gilprobe_stop()
    if left > 0:
        raise GilprobeError(
            f"{left} entries of import tables could not be put back", "They lead to hooks that do nothing now."
        )


def _program() -> str:
    main = sys.argv[0] if sys.argv and sys.argv[0] not in ("", "-c", "-m") else "python"
    return Path(main).stem or "python"


def _load() -> Any:
    import ctypes

    # PyDLL keeps the GIL: only the threads that run already are to take turns.
    loaded = ctypes.PyDLL(str(library()))
    loaded.gilprobe_start.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    return loaded


def _recorded_already() -> GilprobeError:
    return GilprobeError(
        "this program is being recorded already", "One recording at a time: end the other first, or run it by itself."
    )


def _refused(error: int) -> GilprobeError:
    if error == BUSY:
        return _recorded_already()
    if error == NO_PYTHON:
        return PlatformError("this interpreter does not say where its state is", "Use CPython 3.11 or later.")
    return GilprobeError(
        f"recording could not begin: {os.strerror(error)}", "gilprobe doctor tells what is in the way."
    )
