"""From recordings to the Profile: classification, accounting, hot objects, findings."""

from gilprobe.analysis.profile import load

__all__ = ["load"]
