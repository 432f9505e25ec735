"""Runs the campaigns: python -m stress [--budget S] [--seed N] [--only NAME] [--out FILE]. Ends with 1 if loud.

python -m stress mutants: mutants of the loader. python -m stress rivals: other explorers on the same corpus.
python -m stress sanitizers: the recorder's tables. Each has --help.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from gilprobe.explore import Result
from stress.bench import ROOT, build
from stress.campaigns import CAMPAIGNS, Campaign, missing


def measure(campaign: Campaign, budget_s: float, seed: int) -> dict[str, Any]:
    planted = campaign.planted(budget_s, seed)
    subject = campaign.subject(budget_s, seed)
    return {
        "subject": {**_row(subject), "story": _end(subject.story)},
        "planted": _row(planted),
        "quiet": subject.verdict in ("EXHAUSTED", "NOT_FOUND") and planted.verdict in ("FAILED", "UNCONTROLLED"),
    }


def _row(result: Result) -> dict[str, Any]:
    return {"verdict": result.verdict, "oracle": result.oracle, "runs": result.schedules}


def _end(story: str) -> str:
    return "" if len(story) < 80 else story[:2000]


def main() -> int:
    if sys.argv[1:2] in (["mutants"], ["rivals"], ["sanitizers"]):
        return int(importlib.import_module(f"stress.{sys.argv[1]}").main(sys.argv[2:]))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=5.0, help="seconds for each subject and each twin")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only")
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "stress" / "campaigns.json")
    options = parser.parse_args()
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    rows: dict[str, Any] = results.setdefault(build(), {})
    quiet = True
    for campaign in CAMPAIGNS:
        if options.only not in (None, campaign.name):
            continue
        lacking = missing(campaign)
        if lacking is not None:
            rows[campaign.name] = {"skipped": f"{lacking} is not installed"}
            print(f"SKIPPED {campaign.name}: {lacking} is not installed", flush=True)
            continue
        measured = measure(campaign, options.budget, options.seed)
        row = rows[campaign.name] = {"seed": options.seed, "budget_s": options.budget, **measured}
        quiet &= row["quiet"]
        subject, planted = row["subject"], row["planted"]
        print(
            f"{'quiet' if row['quiet'] else 'LOUD'} {campaign.name}: subject {subject['verdict']} in {subject['runs']} "
            f"runs, twin {planted['verdict']} {planted['oracle']}",
            flush=True,
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    return 0 if quiet else 1


if __name__ == "__main__":
    sys.exit(main())
