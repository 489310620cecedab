"""The option ``skip_gain=1,1,0,1``: how much of each long skip a request lets through."""

from contract.errors import RequestInvalid
from contract.skip_gain import check_gains
from contract.spec import ModelSpec

Gains = tuple[float, ...]


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
    try:
        gains = tuple(float(number) for number in asked.split(","))
    except ValueError as error:
        raise RequestInvalid(
            "skip_gain holds something else than numbers; give one per level, finest first, with "
            "commas between them, e.g. skip_gain=1,1,0,1"
        ) from error
    check_gains(spec, gains)
    return gains


def spell_gains(gains: Gains) -> str:
    """Return gains as the option takes them."""
    return ",".join(f"{gain:g}" for gain in gains)
