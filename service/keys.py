"""API keys: who may ask, who may load and unload models.

A key is 256 random bits, so its plain SHA-256 can lie in a file: there is nothing to guess. The
file holds no key, and neither do logs.
"""

import argparse
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import KeysInvalid

Scope = Literal["infer", "admin"]
PREFIX = "longskip_"


class Key(BaseModel):
    """One entry of the file.

    Attributes:
        name: of who has it; it stands in the access log.
        sha256: of the key, in hex.
        scopes: what it opens; ``admin`` does not open ``infer``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]


class Keys(BaseModel):
    """All keys of a service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[Key, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file of keys.

        Raises:
            KeysInvalid: it is not there or does not read; the text names the place.
        """
        try:
            found = cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise KeysInvalid(f"{path} cannot be read: {type(error).__name__}") from error
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, f['loc'])) or 'it'}: {f['msg']}" for f in error.errors())
            raise KeysInvalid(
                f"{path} is no file of keys ({'; '.join(faults)}); `python -m service key NAME` "
                "prints an entry"
            ) from error
        names = [key.name for key in found.keys]
        if len(set(names)) < len(names):
            raise KeysInvalid(f"{path} has two keys of one name; give each its own")
        return found

    def find(self, offered: str) -> Key | None:
        """Return the entry of a key, or None; it takes as long for each that is offered."""
        digest = hashlib.sha256(offered.encode()).hexdigest()
        # All are compared, always: how long it takes tells nothing.
        matches = [key for key in self.keys if hmac.compare_digest(key.sha256, digest)]
        return matches[0] if matches else None


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m service key``."""
    parser = argparse.ArgumentParser(
        prog="python -m service key",
        description="Make an API key; add the entry to the file that LONGSKIP_KEYS names.",
    )
    parser.add_argument("name", help="of who gets it, e.g. pacs")
    parser.add_argument("--scopes", nargs="+", choices=get_args(Scope), default=["infer"])
    return parser


def main(arguments: Sequence[str]) -> int:
    """Make a key, and print it once with the entry for the file."""
    parser = build_parser()
    given = parser.parse_args(arguments)
    secret = PREFIX + secrets.token_urlsafe(32)
    try:
        key = Key(
            name=given.name,
            sha256=hashlib.sha256(secret.encode()).hexdigest(),
            scopes=frozenset(given.scopes),
        )
    except ValidationError:
        parser.error("a name has at most 64 of A-Z a-z 0-9 . _ -")
    entry = {"name": key.name, "sha256": key.sha256, "scopes": sorted(key.scopes)}
    print(f"key, shown only now:\n  {secret}\nentry under 'keys:' in the file:")
    print("  - " + yaml.safe_dump(entry, sort_keys=False).strip().replace("\n", "\n    "))
    return 0
