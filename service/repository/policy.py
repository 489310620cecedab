"""The optional ``models.yaml`` in the models' folder: which versions are in use, and their aliases.

nuclei:
  versions: latest        # or all (the default), {latest: 2}, [3, 4]
  aliases:
    stable: 3
    canary: {version: 4, weight: 0.05}
"""

import hashlib
import re
from collections.abc import Collection, Hashable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from service.errors import PoliciesInvalid

POLICY_FILE = "models.yaml"
STABLE = "stable"
# Begins with a letter, so that no alias reads as a number of a version.
ALIAS_PATTERN = "[a-z][a-z0-9_-]{0,31}"
_ALIAS = re.compile(ALIAS_PATTERN)
# What a draw has of a hash: as many bits as a float's mantissa.
DRAW_BITS = 52


def named_version(text: str) -> int | str:
    """Return the number, or the alias, that a text names."""
    return int(text) if text.isdecimal() else text


class Latest(BaseModel):
    """The newest versions that can be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latest: int = Field(ge=1, strict=True)


class Alias(BaseModel):
    """A version under another name.

    Attributes:
        version: its number.
        weight: share of the requests that name no version which goes there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(ge=1, strict=True)
    weight: float = Field(default=0.0, ge=0.0, le=1.0, allow_inf_nan=False)


class Policy(BaseModel):
    """What the file says of one model. What an alias names is in use beside ``versions``.

    Attributes:
        versions: which are in use.
        aliases: by name. ``stable`` answers where no version is named.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    versions: Literal["all"] | Latest | tuple[int, ...] = "all"
    aliases: Mapping[str, Alias] = {}

    @field_validator("versions", mode="before")
    @classmethod
    def _spelled(cls, given: object) -> object:
        if given in ("all", "latest"):
            return Latest(latest=1) if given == "latest" else given
        if isinstance(given, dict) and given.keys() == {"latest"} and _is_number(given["latest"]):
            return Latest(latest=given["latest"])
        if isinstance(given, list) and given and all(map(_is_number, given)):
            return tuple(sorted(set(given)))
        raise ValueError("expected all, latest, {latest: 2} or a list such as [3, 4]")

    @field_validator("aliases", mode="before")
    @classmethod
    def _short_form(cls, given: object) -> object:
        if not isinstance(given, dict):
            raise ValueError("expected names, each with a version: {stable: 3}")
        for name in given:
            if not isinstance(name, str) or not _ALIAS.fullmatch(name):
                raise ValueError(f"an alias's name must match {ALIAS_PATTERN}")
        return {n: {"version": a} if _is_number(a) else a for n, a in given.items()}

    @model_validator(mode="after")
    def _weights_leave_something(self) -> "Policy":
        weights = {name: alias.weight for name, alias in self.aliases.items() if alias.weight}
        if weights and (STABLE in weights or STABLE not in self.aliases):
            raise ValueError(
                f"a weight is what another alias takes from {STABLE}; name {STABLE}, without one"
            )
        if sum(weights.values()) > 1:
            raise ValueError(f"the weights add up to {sum(weights.values()):g}, more than 1")
        return self

    @property
    def stable(self) -> int | None:
        """The version that answers where none is named; None: the newest in use."""
        return self.aliases[STABLE].version if STABLE in self.aliases else None

    def takes(self, version: int) -> bool:
        """Whether a version may be the newest in use, and not there for an alias alone."""
        return not isinstance(self.versions, tuple) or version in self.versions

    def wanted(self, there: Collection[int], unusable: Collection[int]) -> set[int]:
        """Return which of the versions that are there are to be in use.

        Args:
            there: all in the folder.
            unusable: those that were tried and failed; ``latest`` passes over them.
        """
        named = {alias.version for alias in self.aliases.values()}
        if self.versions == "all":
            chosen = set(there)
        elif isinstance(self.versions, Latest):
            chosen = set(sorted(set(there) - set(unusable))[-self.versions.latest :])
        else:
            chosen = set(self.versions)
        return (chosen | named) & set(there)

    def tried(self, there: Collection[int], unusable: Collection[int]) -> set[int]:
        """Return those wanted, and the unusable ones that ``latest`` passed over to get them."""
        wanted = self.wanted(there, unusable)
        if not isinstance(self.versions, Latest):
            return wanted
        newest = sorted(set(there) - set(unusable))[-self.versions.latest :]
        oldest = newest[0] if len(newest) == self.versions.latest else 0
        return wanted | {version for version in there if version > oldest}

    def named(self) -> set[int]:
        """Return all versions that the file names by number."""
        listed = self.versions if isinstance(self.versions, tuple) else ()
        return {*listed, *(alias.version for alias in self.aliases.values())}

    def draw(self, model: str, request_id: str) -> int | None:
        """Return the version of the weighted alias that a request falls to; None: to none.

        A request's id decides, so that one that is sent again meets the same version, and one
        whose id was made here falls by chance.
        """
        weighted = [alias for alias in self.aliases.values() if alias.weight]
        if not weighted:
            return None
        digest = hashlib.sha256(f"{model}\0{request_id}".encode()).digest()
        point = (int.from_bytes(digest[:8], "big") >> (64 - DRAW_BITS)) / 2**DRAW_BITS
        for alias in weighted:
            if point < alias.weight:
                return alias.version
            point -= alias.weight
        return None


Policies = Mapping[str, Policy]
"""By the model's name. A model that is not in it has all versions in use."""
NO_POLICY = Policy()
_FILE = TypeAdapter(dict[str, Policy])


def read_policies(root: Path) -> Policies:
    """Read the file; where there is none, nothing is said of any model.

    Raises:
        PoliciesInvalid: it does not read; the text names the place.
    """
    try:
        text = (root / POLICY_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise PoliciesInvalid(f"{POLICY_FILE} cannot be read: {type(error).__name__}") from error
    try:
        written = yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        raise PoliciesInvalid(f"{POLICY_FILE} is no YAML{place}: {problem}") from error
    if isinstance(written, dict):
        written = {name: {} if said is None else said for name, said in written.items()}
    try:
        return _FILE.validate_python({} if written is None else written)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, f['loc'])) or 'it'}: {f['msg']}" for f in error.errors())
        raise PoliciesInvalid(f"{POLICY_FILE} does not fit: {'; '.join(faults)}") from error


class _UniqueKeys(yaml.SafeLoader):
    """YAML's last of two equal keys would win without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} stands here twice", node.value[place][0].start_mark
                )
        return super().construct_mapping(node, deep)


def _is_number(value: object) -> bool:
    return type(value) is int and value >= 1
