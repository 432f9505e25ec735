"""Every planted bug is found with its known least preemptions; no fixed twin fails."""

from __future__ import annotations

import pytest

from gilprobe.explore import run
from stress.corpus import classic, harder
from stress.corpus.classic import Case

CASES = [*classic.CASES, *harder.CASES]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("case", [c for c in CASES if c.oracles], ids=lambda c: c.name)
def test_planted(case: Case, seed: int) -> None:
    result = run(*case.bodies, state=case.state, final=case.final, seed=seed)
    assert result.verdict == "FAILED" and result.oracle in case.oracles
    assert result.preemptions == case.preemptions
    assert result.racing_pair is not None or result.oracle == "deadlock"


@pytest.mark.parametrize("case", [c for c in CASES if not c.oracles], ids=lambda c: c.name)
def test_twin(case: Case) -> None:
    result = run(*case.bodies, state=case.state, final=case.final, budget_s=2)
    assert result.verdict in ("EXHAUSTED", "NOT_FOUND"), result.story
