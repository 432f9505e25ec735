"""The watchdog: what it finds, how soon, and what it costs."""
