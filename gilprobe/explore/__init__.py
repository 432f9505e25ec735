"""Explore: find the interleaving that breaks it, shrink it, replay it."""

from gilprobe.explore.bodies import run
from gilprobe.explore.check import check
from gilprobe.explore.decorating import interleave, state_machine
from gilprobe.explore.hammering import hammer
from gilprobe.explore.replaying import replay
from gilprobe.explore.result import ExploreFailure, ReplayMismatch, Result

__all__ = [
    "ExploreFailure", "ReplayMismatch", "Result", "check", "hammer", "interleave", "replay", "run", "state_machine",
]  # fmt: skip
