"""Side-by-side measurements: each bench measures both sides in one run and keeps their ratio."""
