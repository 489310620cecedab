"""Model cards and pictures."""
