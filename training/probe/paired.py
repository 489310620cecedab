"""Differences between two nets, or a net and itself with something taken away, case by case."""

from collections.abc import Sequence
from dataclasses import dataclass

from contract.metrics import Summary
from contract.paired import paired_difference


@dataclass(frozen=True)
class PairedRow:
    """One measure of one class, ours minus the other's.

    Attributes:
        ours: name of the first.
        other: name of what it is held against.
        class_name: of the class.
        measure: what is compared, with its unit.
        cases: in which both have a value.
        mean_difference: over these cases.
        ci95_low: bootstrap 95 % interval of that mean; None below two cases (groups).
        ci95_high: its other end.
        p_value: of a sign-flip permutation test, two-sided, not corrected for several tests.
    """

    ours: str
    other: str
    class_name: str
    measure: str
    cases: int
    mean_difference: float | None
    ci95_low: float | None
    ci95_high: float | None
    p_value: float | None


def paired_row(
    ours: tuple[str, Sequence[float]],
    other: tuple[str, Sequence[float]],
    *,
    class_name: str,
    measure: str,
    groups: Sequence[str | None] | None,
    seed: int,
) -> PairedRow:
    """Compare values of the same cases in the same order, each side with its name; NaN is none.

    Raises:
        ValueError: not as many cases on either side.
    """
    found = paired_difference(ours[1], other[1], groups=groups, seed=seed)
    summary: Summary = found.summary
    low, high = summary.ci95 or (None, None)
    return PairedRow(
        ours=ours[0],
        other=other[0],
        class_name=class_name,
        measure=measure,
        cases=summary.cases,
        mean_difference=summary.mean,
        ci95_low=low,
        ci95_high=high,
        p_value=None if found.test is None else found.test.p_value,
    )
