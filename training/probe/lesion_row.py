"""A row of ``lesions.csv``, which the probe ``lesion`` writes and its figure is drawn from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LesionRow:
    """What a lesion costs one class, the mean over images.

    Attributes:
        net: which.
        target: what is damaged.
        kind: of part.
        gain: that is left of it.
        class_name: of the class.
        cases: images with a score.
        dice: mean of the damaged net.
        dice_lost: mean loss against the whole net, image by image.
        ci95_low: bootstrap 95 % interval of the loss.
        ci95_high: its other end.
        p_value: sign-flip permutation test of the loss, two-sided, not corrected.
    """

    net: str
    target: str
    kind: str
    gain: float
    class_name: str
    cases: int
    dice: float | None
    dice_lost: float | None
    ci95_low: float | None
    ci95_high: float | None
    p_value: float | None
