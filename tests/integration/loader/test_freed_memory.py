"""What batches let go of is kept, and not faulted in anew, unless the user says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="the loader needs torch: install gilprobe[loader]")

# 32 arrays of 800 KB a batch; the collate drops them. Faults of the second epoch, in pages of 4 KB: 6,250 a batch anew.
PROGRAM = """
import resource, sys
import numpy as np
from gilprobe.loader import ThreadDataLoader
class Arrays:
    def __len__(self): return 32 * 16
    def __getitem__(self, index): return np.ones(100_000)
loader = ThreadDataLoader(
    Arrays(), batch_size=32, num_workers=2, collate_fn=len, persistent_workers=True,
    keep_freed_memory=sys.argv[1] == "keep",
)
list(loader)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
list(loader)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: str, **variables: str) -> int:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, keep]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env={**environment, **variables})
    return int(ran.stdout)


def test_pages_of_freed_batches_are_kept_unless_the_user_says_otherwise() -> None:
    left_alone = faults("leave")
    assert faults("keep") < left_alone / 3
    # 64 KB is a user's own choice: ours does not undo it.
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="65536") > left_alone / 3
