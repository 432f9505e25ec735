"""From recordings to the Profile: classification, accounting, hot objects, findings."""

from gilprobe.analysis.profile import load
from gilprobe.analysis.scaling import check_baseline, with_waterfall

__all__ = ["check_baseline", "load", "with_waterfall"]
