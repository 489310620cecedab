"""``{version:version}`` in a path: a whole number of at most 18 digits, or an alias.

Starlette's own ``int`` takes any number of digits, and Python refuses to turn more than 4300 of
them into an integer, which would be answered as an internal error.
"""

from typing import Annotated

from fastapi import Depends, Path, Request
from pydantic import Field
from starlette.convertors import Convertor, register_url_convertor

from service.repository.policy import ALIAS_PATTERN, named_version

# In this order, because a query's number comes as text.
Version = Annotated[
    int | Annotated[str, Field(pattern=f"^{ALIAS_PATTERN}$")],
    Path(
        union_mode="left_to_right",
        description="a version of the model, or an alias of one",
        examples=[1, "stable"],
    ),
]


async def _from_path(request: Request) -> int | str | None:
    version: int | str | None = request.path_params.get("version")
    return version


VersionIfNamed = Annotated[int | str | None, Depends(_from_path)]
"""Of an operation with two addresses, one of which names no version; no query is read for it."""


class VersionConvertor(Convertor[int | str]):
    """A model's version, or an alias, in a URL."""

    regex = f"[0-9]{{1,18}}|{ALIAS_PATTERN}"

    def convert(self, value: str) -> int | str:
        """Return the number, or the alias."""
        return named_version(value)

    def to_string(self, value: int | str) -> str:
        """Return what stands in the URL."""
        return str(value)


register_url_convertor("version", VersionConvertor())
