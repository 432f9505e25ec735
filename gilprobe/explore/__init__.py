"""Explore: find the interleaving that breaks it, shrink it, replay it."""

from gilprobe.explore.bodies import run
from gilprobe.explore.check import check
from gilprobe.explore.replaying import replay
from gilprobe.explore.result import ExploreFailure, ReplayMismatch, Result

__all__ = ["ExploreFailure", "ReplayMismatch", "Result", "check", "replay", "run"]
