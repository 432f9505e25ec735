"""A thread-based torch DataLoader that measures itself. Needs torch: the extra `gilprobe[loader]`."""

from __future__ import annotations

from gilprobe.errors import GilprobeError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:  # pragma: no cover - tested in a process without torch
    raise GilprobeError("the loader needs torch, which is not installed", "pip install 'gilprobe[loader]'") from error

from gilprobe.loader.advise import Advice, Trial, advise
from gilprobe.loader.dataloader import ThreadDataLoader
from gilprobe.loader.isolation import Isolation
from gilprobe.loader.stats import LoaderStats, WorkerStats
from gilprobe.loader.writes import SharedWrite

__all__ = ["Advice", "Isolation", "LoaderStats", "SharedWrite", "ThreadDataLoader", "Trial", "WorkerStats", "advise"]
