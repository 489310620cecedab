"""The option ``skip_gain=1,1,0,1``: how much of each long skip a request lets through."""

import re

from contract.errors import RequestInvalid
from contract.skip_gain import check_gains
from contract.spec import ModelSpec

Gains = tuple[float, ...]

# What a client of any language writes for a number. Python's float() also takes 0_1 and digits of
# other scripts, which are rather a slip than a wish.
NUMBER = re.compile(r" *[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)? *")


def choose_gains(asked: str | None, spec: ModelSpec) -> Gains | None:
    """Return the gains of a request, finest level first; 1 at each where it names none.

    Args:
        asked: the query's ``skip_gain``.
        spec: of the model that is to answer; None is returned where it has no dial.

    Raises:
        RequestInvalid: not one number in range per level, or a model without a dial is asked.
    """
    if asked is None:
        return (1.0,) * len(spec.skip_gain_strides) or None
    numbers = asked.split(",")
    if not all(map(NUMBER.fullmatch, numbers)):
        raise RequestInvalid(
            "skip_gain holds something else than numbers in digits 0 to 9; give one per level, "
            "finest first, with commas between them, e.g. skip_gain=1,1,0,1"
        )
    gains = tuple(float(number) + 0.0 for number in numbers)  # + 0.0 makes 0 of -0
    check_gains(spec, gains)
    return gains


def spell_gains(gains: Gains) -> str:
    """Return gains as the option takes them, to the last digit that float32 has."""
    return ",".join(f"{gain:.9g}" for gain in gains)
