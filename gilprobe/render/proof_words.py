"""What --prove did and found, in lines."""

from __future__ import annotations

from gilprobe.model import Proof
from gilprobe.render.wording import percent, seconds

FROZEN, DEFERRED = "frozen", "its count deferred"


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
    if proof.rest_cpu_s:
        lines.append(
            f"   From the freeze to its end the rerun took {seconds(proof.rest_cpu_s[0])} of CPU, the control "
            f"{seconds(proof.rest_cpu_s[1])}: a gain only if the script does a fixed amount of work."
        )
    outcomes = {item.outcome for item in proof.objects}
    if FROZEN in outcomes:
        lines.append(
            f"   In that rerun {stopped}the frozen objects were made immortal: not counted and never freed from then "
            "on."
        )
    if DEFERRED in outcomes:
        lines.append(
            f"   In that rerun {stopped}counts were deferred as PyUnstable_Object_EnableDeferredRefcount does it: "
            "threads do not count what they load of them, and only the garbage collector frees them from then on."
        )
    return lines


def _verdict(proof: Proof) -> str:
    if proof.proven is None:
        return "Proof: undecided"
    run = proof.runs.get(FROZEN)
    margin = f" (± {run.margin * 100:.1f} points)" if run else ""
    predicted = f"predicted {percent(proof.predicted)} [{proof.evidence}]"
    doubt = ", undecided" if proof.why else ""
    noise = max(2 * run.margin if run else 0.0, abs(proof.control or 0.0))
    if proof.proven <= noise:
        change = f"{abs(proof.proven):.1%} {'less' if proof.proven > 0 else 'more'}"
        gain = f"no gain that stands out: a unit of work took {change} CPU{margin}"
        return f"Proof{doubt}: this brought {gain}; {predicted}"
    speed = f", {proof.speedup:.2f} times the speed" if proof.speedup else ""
    how = "with counts deferred" if DEFERRED in {item.outcome for item in proof.objects} else "frozen"
    return f"Proof{doubt}: {how}, a unit of work takes {percent(proof.proven)} less CPU{margin}{speed}; {predicted}"
