"""What --prove did and found, in lines."""

from __future__ import annotations

from gilprobe.model import Proof
from gilprobe.render.wording import percent, seconds

FROZEN = "frozen"


def proof_lines(proof: Proof) -> list[str]:
    """The verdict, then what was done to which object, then how it was measured."""
    lines = [_verdict(proof)]
    if proof.why:
        lines.append(f"   {proof.why[0].upper()}{proof.why[1:]}.")
    lines += [
        f"   {item.outcome}: {item.object_type} {item.name}, predicted {percent(item.predicted)}"
        for item in proof.objects
    ]
    frozen = proof.runs.get("frozen")
    if frozen:
        lines.append(
            f"   Work is counted in {proof.measure} a second of CPU: {frozen.work_before:,.0f} before, "
            f"{frozen.work_after:,.0f} after ({frozen.cores_before:.1f} and {frozen.cores_after:.1f} cores)"
            + (
                f"; the control, which froze nothing, changed by {proof.control:+.0%}."
                if proof.control is not None
                else "."
            )
        )
        stopped = f"the world stood still for {seconds(frozen.stopped_s)}, and "
    else:
        stopped = ""
    if any(item.outcome == FROZEN for item in proof.objects):
        lines.append(
            f"   In that rerun {stopped}the objects above were made immortal: not counted and never freed from then on."
        )
    return lines


def _verdict(proof: Proof) -> str:
    if proof.proven is None:
        return "Proof: undecided"
    speed = f", {proof.speedup:.2f} times the speed" if proof.speedup else ""
    undecided = ", undecided" if proof.why else ""
    run = proof.runs.get(FROZEN)
    margin = f" (± {run.margin * 100:.1f} points)" if run else ""
    return (
        f"Proof{undecided}: frozen, a unit of work takes {percent(proof.proven)} less CPU{margin}{speed}; "
        f"predicted {percent(proof.predicted)} [{proof.evidence}]"
    )
