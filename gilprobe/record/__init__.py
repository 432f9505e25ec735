"""What runs inside the recorded program: standard library only."""
