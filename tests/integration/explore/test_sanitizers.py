"""The recorder's own tables are quiet under the sanitizers, which do report a defect planted in them."""

from __future__ import annotations

import pytest

from stress import sanitizers


@pytest.mark.parametrize("sanitizer, twin", [("thread", "a freed slot"), ("address", "an index without its mask")])
def test_tables_are_quiet_and_a_planted_defect_is_not(
    sanitizer: str, twin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = sanitizers.missing(sanitizer)
    if lacking is not None:
        pytest.skip(f"NOT RUN under -fsanitize={sanitizer}: {lacking}")
    monkeypatch.setattr(sanitizers, "SANITIZERS", (sanitizer,))
    rows = sanitizers.measure(twin)
    assert len(rows["tables"]) == 4 and not any(rows["tables"].values())
    (reported,) = rows["twins"].values()
    assert reported["report"] is not None and f"{sanitizer.title()}Sanitizer" in reported["report"]
