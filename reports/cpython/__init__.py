"""CPython's own tests under gilprobe, and without it."""
