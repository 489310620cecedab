"""``{version:version}`` in a path: a whole number of at most 18 digits, else there is no such path.

Starlette's own ``int`` takes any number of digits, and Python refuses to turn more than 4300 of
them into an integer, which would be answered as an internal error.
"""

from starlette.convertors import Convertor, register_url_convertor


class VersionConvertor(Convertor[int]):
    """A model's version in a URL."""

    regex = "[0-9]{1,18}"

    def convert(self, value: str) -> int:
        """Return the number."""
        return int(value)

    def to_string(self, value: int) -> str:
        """Return the digits."""
        return str(value)


register_url_convertor("version", VersionConvertor())
