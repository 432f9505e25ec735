"""Explore: find the interleaving that breaks it, shrink it, replay it."""

from gilprobe.explore.bodies import run
from gilprobe.explore.result import ExploreFailure, ReplayMismatch, Result

__all__ = ["ExploreFailure", "ReplayMismatch", "Result", "run"]
