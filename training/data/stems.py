"""The order of file names that a person expects: slice 2 before slice 10."""

import re

_DIGITS = re.compile(r"(\d+)")


def natural_key(stem: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Return a sort key in which runs of digits count as numbers.

    The stem itself comes last, so that ``a1`` and ``a01`` have one fixed order.
    """
    pieces = (piece for piece in _DIGITS.split(stem) if piece)
    return tuple(
        (0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces
    ), stem
