"""Time and memory of model files by size, batch and precision."""
