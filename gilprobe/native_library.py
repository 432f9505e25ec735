"""Where the recorder's library is, and whether it can work here."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from gilprobe.errors import PlatformError

LIBRARY = Path(__file__).parent / "native" / "libgilprobe.so"


def library() -> Path:
    """Raises PlatformError where it cannot work or has not been built."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise PlatformError(
            f"recording needs Linux on x86-64, this is {sys.platform} on {platform.machine()}",
            "Recordings made elsewhere can be reported on here: gilprobe report FILE.",
        )
    if not LIBRARY.exists():
        raise PlatformError(f"the recorder {LIBRARY.name} is missing", "Install gilprobe's wheel, or run make native.")
    return LIBRARY
