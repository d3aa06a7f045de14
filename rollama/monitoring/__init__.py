"""Whether a model meets the cases that it was trained for: what it is sent and what it answers against its training."""
