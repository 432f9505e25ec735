"""What the pytest plugin does: records test runs, and holds tests to limits of contention."""
