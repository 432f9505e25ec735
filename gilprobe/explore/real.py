"""What the explorer itself runs on, taken before anything is patched: never its own models."""

from __future__ import annotations

import _thread
import time
from typing import Final

raw_lock: Final = _thread.allocate_lock
raw_thread: Final = _thread.start_new_thread
raw_monotonic: Final = time.monotonic
raw_sleep: Final = time.sleep
get_ident: Final = _thread.get_ident
