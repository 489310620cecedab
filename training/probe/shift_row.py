"""Rows of ``curves.csv`` and ``crossings.csv``: what the probe ``shift`` finds, and draws."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ShiftRow:
    """Mean Dice over images and classes at one strength, with its bootstrap 95 % interval."""

    net: str
    kind: str
    strength: float
    cases: int
    dice: float | None
    ci95_low: float | None
    ci95_high: float | None


@dataclass(frozen=True)
class CrossingRow:
    """Where the curve of ``net`` crosses that of ``other``.

    Attributes:
        net: the first.
        other: the one it is held against.
        kind: of shift.
        crosses_at: strength; None: they do not cross.
        ci95_low: of the strength, over resamples in which they cross.
        ci95_high: its other end.
        resamples_that_cross: share of the bootstrap's.
        cases: images with a score of both.
        ahead_at_0: mean Dice of ``net`` minus ``other`` on the images as they are.
        ahead_at_end: at the strongest shift.
    """

    net: str
    other: str
    kind: str
    crosses_at: float | None
    ci95_low: float | None
    ci95_high: float | None
    resamples_that_cross: float
    cases: int
    ahead_at_0: float
    ahead_at_end: float
