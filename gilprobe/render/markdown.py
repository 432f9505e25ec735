"""A page for a build's summary."""

from __future__ import annotations

from gilprobe.model import Profile
from gilprobe.render.wording import answer, percent, place, plain, samplers, seconds, waterfall_rows, who_released

SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>|#"})


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
        lines += [
            "",
            "## Threads",
            "",
            "| thread | wall | CPU | waits | idle | sleep and I/O | page faults | switches to wait, forced |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for thread in profile.threads:
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
        for wait in [wait for wait in profile.waits if not wait.idle][:30]:
            lines.append(
                f"| {wait.kind} | {_text(wait.name)} | {wait.count} | {seconds(wait.total_s)} | {seconds(wait.max_s)} "
                f"| {_text(who_released(wait)) or '-'} |"
            )
        lines += ["", _text(samplers(profile)), "", "## Not observed", ""]
        lines += [f"- {_text(item.what)}: {_text(item.why)}" for item in profile.not_observed]
        return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    return plain(text).translate(SPECIAL)
