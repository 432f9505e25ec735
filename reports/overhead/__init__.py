"""What recording costs: ratios with the recorder on and off, interleaved."""
