"""--gilprobe, limit_contention and deadlock_watchdog, as hooks of pytest."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from gilprobe.errors import GilprobeError, PlatformError
from gilprobe.record.folder import default_name, make_folder
from gilprobe.record.inside import parts
from gilprobe.record.spans import span
from gilprobe.testing.limits import exceeded, limits_of, summary

RUN_HZ = 100
FOLDER = "gilprobe_folder"
MARKERS = (
    'limit_contention(lock="5%", gil=..., object=..., native=...): fail when the test\'s threads wait more than this '
    "share of threads x wall",
    "deadlock_watchdog(limit_s=5): fail when the test deadlocks, or waits longer than this",
)


class Contention:
    """One a pytest process. `folder`: where the run is recorded, None without --gilprobe.

    Under xdist the workers record, each a file of its own, and the controller makes the folder and sums up.
    """

    def __init__(self, config: Any) -> None:
        self.config = config
        self.is_worker = hasattr(config, "workerinput")
        distributes = config.getoption("dist", "no") != "no" and not self.is_worker
        self.folder: Path | None = None
        self.run: parts | None = None
        if config.getoption("gilprobe"):
            given = config.workerinput.get(FOLDER) if self.is_worker else config.getoption("gilprobe_output")
            self.folder = Path(given or default_name("pytest")).absolute()
            self.run = None if distributes else parts(self.folder, rate_hz=RUN_HZ)
        self.limits: dict[str, dict[str, float]] = {}
        self.failures: dict[str, list[str]] = {}

    # ---- the run

    def pytest_sessionstart(self) -> None:
        import pytest

        try:
            if self.folder and not self.is_worker:
                make_folder(self.folder, bool(self.config.getoption("gilprobe_force")), overwrite_by="--gilprobe-force")
            if self.run:
                self.run.start()
        except GilprobeError as error:
            raise pytest.UsageError(str(error)) from error

    def pytest_configure_node(self, node: Any) -> None:
        """xdist's: what a worker gets to know. It does not get the options that nobody gave."""
        if self.folder:
            node.workerinput[FOLDER] = str(self.folder)

    def pytest_sessionfinish(self) -> None:
        if self.run:
            self.run.stop()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.folder is None or self.is_worker:
            return
        import gilprobe

        terminalreporter.section("gilprobe")
        try:
            lines = summary(gilprobe.load(self.folder), _shown(self.folder))
        except GilprobeError as error:
            lines = str(error).splitlines()
        for line in lines:
            terminalreporter.write_line(line)

    # ---- one test

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        import pytest

        for item in items:
            marker = item.get_closest_marker("limit_contention")
            try:
                if marker:
                    self.limits[item.nodeid] = limits_of(marker.args, marker.kwargs)
            except GilprobeError as error:
                raise pytest.UsageError(f"{item.nodeid}: {error}") from error

    def pytest_runtest_call(self, item: Any) -> Generator[None, Any, None]:
        limits = self.limits.get(item.nodeid)
        watchdog = _watchdog(item)
        with _recorded(self.run, item, limits is not None) as recorded, watchdog as watched:
            yield
        if recorded is not None and limits is not None:
            import gilprobe

            self.failures[item.nodeid] = exceeded(gilprobe.load(recorded), limits)
            _keep(recorded, self.folder)
        if watched is not None and (watched.deadlocks or watched.stalls):
            counts = (len(watched.deadlocks), "deadlock"), (len(watched.stalls), "stall")
            stuck = ", ".join(f"{count} {what}{'s' if count > 1 else ''}" for count, what in counts if count)
            self.failures[item.nodeid] = self.failures.get(item.nodeid, []) + [f"deadlock_watchdog: {stuck}"]

    def pytest_runtest_makereport(self, item: Any, call: Any) -> Generator[None, Any, None]:
        outcome = yield
        if call.when != "call":
            return
        lines = self.failures.pop(item.nodeid, None)
        report = outcome.get_result()
        if not lines:
            return
        text = "\n".join(lines)
        if report.passed:
            report.outcome = "failed"
            report.longrepr = text
        else:
            report.sections.append(("gilprobe", text))


class _recorded:
    """A test with limits gets a recording of its own, which the run's gives way to; else it is a span of the run's.

    Gives the folder of its own recording, or None.
    """

    def __init__(self, run: parts | None, item: Any, own: bool) -> None:
        self.run, self.item = run, item
        self.span: span | None = None
        self.recording: parts | None = None
        if own:
            self.recording = parts(Path(tempfile.mkdtemp(prefix="gilprobe-")), rate_hz=RUN_HZ if run else 0)
        elif run:
            self.span = span(item.nodeid)

    def __enter__(self) -> Path | None:
        if self.span:
            self.span.__enter__()
        if self.recording is None:
            return None
        if self.run:
            self.run.stop()
        try:
            self.recording.start()
        except GilprobeError as error:
            self.recording.folder.rmdir()
            self.recording = None
            if self.run:
                self.run.start()
            why = "here" if isinstance(error, PlatformError) else "in a run that gilprobe profile records"
            warnings.warn(f"{self.item.nodeid}: contention is not limited {why}: {error.message}", stacklevel=1)
            return None
        return self.recording.folder

    def __exit__(self, *_: object) -> None:
        if self.span:
            self.span.__exit__(None, None, None)
        if self.recording:
            self.recording.stop()
            if self.run:
                self.run.start()


def _keep(recorded: Path, folder: Path | None) -> None:
    """With the run's, or nowhere."""
    if folder:
        for file in recorded.glob("*.gpr"):
            shutil.move(file, folder / file.name)
    shutil.rmtree(recorded)


def _watchdog(item: Any) -> AbstractContextManager[Any]:
    marker = item.get_closest_marker("deadlock_watchdog")
    if marker is None:
        return nullcontext()
    import gilprobe

    watchdog = getattr(gilprobe, "watchdog", None)
    if watchdog is None:
        warnings.warn(f"{item.nodeid}: this gilprobe has no watchdog", stacklevel=1)
        return nullcontext()
    # Raising ends the wait, so that the test can fail instead of hanging.
    made: AbstractContextManager[Any] = watchdog(*marker.args, **({"on_deadlock": "raise"} | marker.kwargs))
    return made


def _shown(folder: Path) -> str:
    try:
        return str(folder.relative_to(Path.cwd()))
    except ValueError:
        return str(folder)
