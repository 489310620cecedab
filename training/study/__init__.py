"""A grid of trainings that asks one question, from settings to a report."""
