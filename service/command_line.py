"""``python -m service --help``: every setting with its variable, its default and an example."""

import argparse
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from service.protocols.openapi import RESEARCH_USE_ONLY
from service.settings import ENVIRONMENT_PREFIX, Settings

EXAMPLES = """examples:
  python -m service
  python -m service predict images --out masks --model nuclei
  python -m service key pacs --scopes infer
  python -m service --models /srv/models --port 9000
  LONGSKIP_DEVICE=cuda LONGSKIP_HOST=0.0.0.0 python -m service

Each option can be set in the environment by the variable named with it; the command line wins.
"""


def parse_settings(arguments: Sequence[str]) -> Settings:
    """Return the settings of environment and command line.

    Raises:
        SystemExit: after ``--help``, or where a setting is wrong (status 2, the fault on stderr).
    """
    parser = _parser()
    given = {name: text for name, text in vars(parser.parse_args(arguments)).items() if text}
    try:
        return Settings(**given)
    except ValidationError as error:
        parser.error("; ".join(_fault(fault) for fault in error.errors()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description=f"Serve the models of a folder over REST. {RESEARCH_USE_ONLY}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, field in Settings.model_fields.items():
        # A switch may stand alone.
        alone: dict[str, Any] = {"nargs": "?", "const": "true"} if field.annotation is bool else {}
        parser.add_argument(
            f"--{name.replace('_', '-')}", metavar="VALUE", help=_help(name, field), **alone
        )
    return parser


def _help(name: str, field: FieldInfo) -> str:
    default = "none" if field.default in (None, (), "") else field.default
    example = f", e.g. {field.examples[0]}" if field.examples else ""
    text = f"{field.description} [{_variable(name)}, default {default}{example}]"
    return text.replace("%", "%%")


def _fault(fault: Any) -> str:
    name = _variable(str(fault["loc"][0])) + ": " if fault["loc"] else ""
    return f"{name}{fault['msg']}"


def _variable(name: str) -> str:
    return f"{ENVIRONMENT_PREFIX}{name.upper()}"
