"""gilprobe profile: run a script with the recorder, then say what it waited for."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import click

from gilprobe.cli.baseline import baseline_options
from gilprobe.cli.closing import check_page, report_on
from gilprobe.cli.prove import check_build, prove_recording
from gilprobe.errors import GilprobeError, UsageError
from gilprobe.launch import Options, Target, inspect, py_spy, run, target_of
from gilprobe.launch.cuda import plan, under_torch_profiler
from gilprobe.launch.nvml import NvmlSampler
from gilprobe.record.folder import default_name, make_folder
from gilprobe.record.inside import DEFAULT_HZ, MOST_HZ

LEAST_LIMIT_S, USUAL_LIMIT_S, MOST_LIMIT_S = 0.2, 10.0, 86400.0


def limit_of(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = float("nan")
    if not LEAST_LIMIT_S <= seconds <= MOST_LIMIT_S:
        raise UsageError(
            f"--watchdog={value} is no limit: it must be from {LEAST_LIMIT_S} to {MOST_LIMIT_S:.0f} seconds",
            "Leave it out for 10 s, or write --watchdog=30.",
        )
    return seconds


class ProfileCommand(click.Command):
    """As in python's own command line, -m MODULE and -c CODE end the options: what follows is the target's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        takes_value = {
            name
            for option in self.params
            if isinstance(option, click.Option) and not option.is_flag
            for name in (*option.opts, *option.secondary_opts)
        }
        at = 0
        args = list(args)
        while at < len(args) and args[at].startswith("-") and args[at] not in ("-", "--"):
            word = args[at]
            if word == "--cuda":  # its value is optional, so it never takes the next word
                word = args[at] = "--cuda=auto"
            if word in ("-m", "-c"):
                args = [*args[: at + 2], "--", *args[at + 2 :]]
                break
            if word[:2] in ("-m", "-c"):
                args = [*args[: at + 1], "--", *args[at + 1 :]]
                break
            if word == "--watchdog":  # its value is optional: only --watchdog=SECONDS gives one
                args = [*args[:at], f"--watchdog={USUAL_LIMIT_S}", *args[at + 1 :]]
                word = args[at]
            at += 2 if word in takes_value else 1
        return super().parse_args(ctx, args)


@click.command(
    cls=ProfileCommand, context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]}
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for the recording [SCRIPT.DATE-PID.gilprobe]."
)
@click.option("--html", type=click.Path(path_type=Path), help="Also write a report page here.")
@click.option("--open", "open_page", is_flag=True, help="Write a report page and open it.")
@click.option("--events", is_flag=True, help="Keep every single wait, for the timeline.")
@click.option(
    "--rate",
    default=DEFAULT_HZ,
    show_default=True,
    type=click.IntRange(0, MOST_HZ),
    help="CPU samples a second; 0 = none.",
)
@click.option(
    "--sampler",
    type=click.Choice(["auto", "native", "py-spy", "perf", "timer"]),
    default="auto",
    show_default=True,
    help="py-spy: run it beside the script at --rate; auto: seldom, where it is installed and the script has the GIL. "
    "native: without it. perf, timer: what the native one runs on.",
)
@baseline_options
@click.option(
    "--watchdog",
    callback=limit_of,
    metavar="[=SECONDS]",
    help="Watch for deadlocks, contradicting lock orders, and stalls longer than SECONDS [10].",
)
@click.option(
    "--on-deadlock",
    type=click.Choice(["report", "raise", "abort"]),
    default="report",
    show_default=True,
    help="raise: gilprobe.DeadlockError in one of the threads; abort: exit with status 124. Needs --watchdog.",
)
@click.option(
    "--cuda",
    default="off",
    metavar="[=auto|cupti|torch|nvml|off]",
    help="Also record CUDA contexts and what the GPU did for them.",
)
@click.option("--cuda-raw", hidden=True, default=0, help="Keep so many of CUPTI's records as they come, for tests.")
@click.option("--python", default=sys.executable, help="The interpreter to run the script with [gilprobe's own].")
@click.option(
    "--prove",
    type=click.IntRange(1, 32),
    metavar="N",
    help="Run the script twice more, once with its N hottest objects frozen, and report what that changed.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing recording or page.")
@click.option("--live", is_flag=True, help="Show what the threads do while they do it.")
@click.option("-q", "--quiet", is_flag=True, help="No summary at the end.")
@click.option("-m", "module", help="Run a module, as python -m does; it ends gilprobe's options.")
@click.option("-c", "code", help="Run code, as python -c does; it ends gilprobe's options.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="(script.py | -m mod | -c code) [ARGS]...")
def profile(
    output: Path | None,
    html: Path | None,
    open_page: bool,
    events: bool,
    rate: int,
    sampler: str,
    baseline: Path | None,
    work: float,
    watchdog: float | None,
    on_deadlock: str,
    cuda: str,
    cuda_raw: int,
    python: str,
    prove: int | None,
    force: bool,
    live: bool,
    quiet: bool,
    module: str | None,
    code: str | None,
    words: tuple[str, ...],
) -> int:
    """Run a script and report every wait of every thread, and who caused it.

    Options before the script are gilprobe's; all that follow it are the script's. The script's exit status comes back.
    """
    if module is not None and code is not None:
        raise UsageError("-m and -c were both given", "Give one of script.py, -m MODULE, -c CODE.")
    if on_deadlock != "report" and watchdog is None:
        raise UsageError(f"--on-deadlock {on_deadlock} does nothing without --watchdog", "Add --watchdog.")
    if live:
        from gilprobe.cli.live import Watching, check_terminal

        check_terminal()
    interpreter = inspect(python)
    if prove:
        check_build(interpreter)
    target = target_of(words, module=module, code=code)
    recording = output or default_name(target.name)
    page = html or (recording.with_suffix(".html") if open_page else None)
    if page:
        check_page(page, force)
    if baseline:
        _check_baseline(baseline, target)  # before the script runs, which may take long
    cuda_plan = plan(cuda, interpreter)
    make_folder(recording, force, overwrite_by="--force")
    cuda_plan.write(recording)
    options = replace(
        _options(events, rate, sampler),
        watchdog_s=watchdog,
        on_deadlock=on_deadlock,
        cuda=cuda_plan.source == "cupti",
        cupti=cuda_plan.libcupti,
        cuda_raw=cuda_raw,
    )
    if cuda_plan.source == "torch":
        target = under_torch_profiler(target, recording)
    with (
        Watching(recording) if live else nullcontext(),
        NvmlSampler(recording) if cuda_plan.source == "nvml" else nullcontext(),
    ):
        status = run(interpreter, target, recording, options)
    try:
        if prove:
            prove_recording(interpreter, target, recording, options, prove, status)
        report_on(recording, page, quiet, force, open_page, baseline, work)
    except GilprobeError as error:
        # The script's own status stands: what it did is done.
        print(error, file=sys.stderr)
        return status or error.exit_status
    return status


def _options(events: bool, rate_hz: int, sampler: str) -> Options:
    """Asked for, py-spy's samples are told apart by the times of all waits, which come with it.

    Raises UsageError where py-spy is asked for and cannot be had.
    """
    program = py_spy.find() if rate_hz and sampler in ("py-spy", "auto") else None
    if sampler == "py-spy" and program is None:
        if not rate_hz:
            raise UsageError("--sampler py-spy was given, and --rate 0, which samples nothing", "Leave one out.")
        raise UsageError("py-spy is not installed", "Install it (pip install py-spy), or leave --sampler out.")
    native = sampler if sampler in ("perf", "timer") else "auto"
    asked = sampler == "py-spy"
    return Options(events or asked, rate_hz, native, py_spy=program, py_spy_asked=asked)


def _check_baseline(baseline: Path, target: Target) -> None:
    from gilprobe.analysis import check_baseline, load

    check_baseline(load(baseline), ("python", *target.arguments))
