"""Samples and a net -> checkpoints in a run directory."""
