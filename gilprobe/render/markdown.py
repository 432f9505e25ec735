"""A page for a build's summary: CommonMark with tables, short enough for the services that show one."""

from __future__ import annotations

from gilprobe.model import Profile, own_frame
from gilprobe.render.cuda import cuda_lines
from gilprobe.render.proof_words import proof_lines
from gilprobe.render.sarif import steps_of
from gilprobe.render.wording import (
    answer,
    collections_line,
    native_words,
    percent,
    place,
    plain,
    samplers,
    seconds,
    waterfall_rows,
    who_released,
)

SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>|#&~$@"})
MOST_THREADS, MOST_WAITS, MOST_NOT_OBSERVED, MOST_HOLDS = 30, 30, 30, 10


class Markdown:
    suffix = ".md"

    def render(self, profile: Profile) -> str:
        lines = ["# Contention report", "", _text(answer(profile)), "", "## Findings", ""]
        for number, finding in enumerate(profile.findings, 1):
            lines += [f"{number}. **{percent(finding.share)}** {_text(finding.title)} ({finding.evidence})"]
            lines += [f"   - {_text(place(frame))}" for frame in finding.sites[:4]]
            lines += [f"   - {_text(finding.cure)}"]
        if profile.waterfall:
            lines += ["", "## Speed-up", "", "| part | speed-up |", "|---|---|"]
            lines += [f"| {_text(label)} | {figure} |" for label, figure in waterfall_rows(profile.waterfall)]
        lines += _problems(profile)
        if profile.proof:
            lines += ["", "## Proof", "", *(f"- {_text(line.strip(), 400)}" for line in proof_lines(profile.proof))]
        lines += [
            "",
            "## Threads",
            "",
            "| thread | wall | CPU | waits | idle | sleep and I/O | page faults | switches to wait, forced |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for thread in sorted(profile.threads, key=lambda thread: -thread.cpu_s - sum(thread.wait_s.values()))[
            :MOST_THREADS
        ]:
            waits = ", ".join(f"{kind} {seconds(value)}" for kind, value in thread.wait_s.items() if value > 0.0005)
            lines.append(
                f"| {_text(thread.name)} | {seconds(thread.wall_s)} | {seconds(thread.cpu_s)} | {waits or '-'} "
                f"| {seconds(sum(thread.idle_s.values()))} | {seconds(thread.sleep_io_s)} "
                f"| {thread.minor_faults + thread.major_faults} "
                f"| {thread.voluntary_switches}, {thread.involuntary_switches} |"
            )
        lines += [
            "",
            "## Waits",
            "",
            "| kind | for | count | total | longest | ended by |",
            "|---|---|---|---|---|---|",
        ]
        for wait in [wait for wait in profile.waits if not wait.idle][:MOST_WAITS]:
            lines.append(
                f"| {wait.kind} | {_text(wait.name)} | {wait.count} | {seconds(wait.total_s)} | {seconds(wait.max_s)} "
                f"| {_text(who_released(wait)) or '-'} |"
            )
        holds = [hold for hold in profile.gil_holds if hold.waiters or hold.open][:MOST_HOLDS]
        if holds:
            lines += ["", "## Longest holds of the GIL", "", "| held | thread | in | at |", "|---|---|---|---|"]
        for hold in holds:
            where = _text(place(own_frame(hold.stack)))
            lines.append(
                f"| {seconds(hold.held_s)} | {_text(hold.thread)} | {_text(native_words(hold)) or '-'} | {where} |"
            )
        if collections_line(profile):
            lines += ["", _text(collections_line(profile))]
        if profile.cuda:
            lines += ["", "## CUDA", "", *(f"- {_text(line.strip())}" for line in cuda_lines(profile.cuda))]
        lines += ["", _text(samplers(profile)), "", "## Not observed", ""]
        lines += [f"- {_text(item.what)}: {_text(item.why)}" for item in profile.not_observed[:MOST_NOT_OBSERVED]]
        return "\n".join(lines) + "\n"


def _problems(profile: Profile) -> list[str]:
    lines: list[str] = []
    for title, found in (("Deadlocks", profile.deadlocks), ("Orders of locks that could deadlock", profile.lock_order)):
        if found:
            lines += ["", f"## {title}", ""]
        for number, each in enumerate(found, 1):
            lines.append(f"{number}. {len(steps_of(each))} threads")
            for thread in steps_of(each):
                lines += [f"   - {_text(text)}: {_text(place(own_frame(stack)))}" for text, stack in thread]
    return lines


def _text(text: str, most: int = 200) -> str:
    return plain(text, most).translate(SPECIAL)
