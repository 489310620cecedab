"""The optional input ``skip_gain``: a factor per level on what the encoder hands to a long skip.

1 leaves a skip as it was trained, 0 takes its features away. Levels stand finest first, as in
``NetDescription.long_skips``; at a level whose skip is ``none`` the factor has no effect.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contract.errors import RequestInvalid
from contract.spec import ModelSpec

# No net was trained on more than its skips as they are; what lies far above is out of its range,
# and twice is what the bytes of an int8 file hold (ADR 0023).
LEAST_GAIN, MOST_GAIN = 0.0, 2.0


def check_gains(spec: ModelSpec, gains: Sequence[float]) -> None:
    """Check one image's factors, one per level.

    Raises:
        RequestInvalid: the model takes none, or another number of them, or one is out of range.
    """
    levels = len(spec.skip_gain_strides)
    if levels == 0:
        raise RequestInvalid(
            f"{spec.name} was exported without a dial for its long skips; leave skip_gain out, or "
            "export the model with --gated"
        )
    if len(gains) != levels:
        strides = ", ".join(f"1:{stride}" for stride in spec.skip_gain_strides)
        raise RequestInvalid(
            f"skip_gain has {len(gains)} numbers; {spec.name} takes {levels}, one per level, "
            f"finest first ({strides}), e.g. {','.join(['1'] * (levels - 1) + ['0'])}"
        )
    if not all(LEAST_GAIN <= gain <= MOST_GAIN for gain in gains):  # NaN is out of range, too
        raise RequestInvalid(
            f"every number of skip_gain must lie in {LEAST_GAIN:g} to {MOST_GAIN:g}: 0 takes the "
            "level's skip away, 1 leaves it as it was trained"
        )


def checked_rows(
    spec: ModelSpec, skip_gain: NDArray[np.float32], *, batch: int
) -> NDArray[np.float32]:
    """Return ``skip_gain``, contiguous, if it fits a batch: float32 ``[1 or N, levels]``.

    Raises:
        RequestInvalid: it does not.
    """
    if skip_gain.dtype != np.float32 or skip_gain.ndim != 2 or len(skip_gain) not in (1, batch):
        levels = len(spec.skip_gain_strides)
        raise RequestInvalid(
            f"skip_gain is {skip_gain.dtype} {list(skip_gain.shape)}; give float32 "
            f"[1 or {batch}, {levels}]"
        )
    for row in skip_gain:
        check_gains(spec, row.tolist())
    return np.ascontiguousarray(skip_gain)
