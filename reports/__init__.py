"""Studies: each folder holds a claim's workload, the command that measures it, its summary.json and its page."""
