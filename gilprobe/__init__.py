"""gilprobe: why are this program's threads slower than they should be, and what would make them faster?"""

__version__ = "0.1.0"
