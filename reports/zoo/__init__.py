"""Small programs that each measure their own truth: what gilprobe should say of them is printed by them."""
