"""``python -m training plan``: what ``fit`` would choose, and why."""

from collections.abc import Mapping, Sequence
from typing import Any

from contract.errors import RequestInvalid
from training.fit.options import build_parser
from training.plan.rules import Choice
from training.plan.settings import data_config, given_options, look
from training.plan.written import block_yaml, nested, with_reasons

USAGE = """usage: python -m training plan --data.root DIR [--out plan.yaml] [any option of fit]

Look at the images and this machine, and say what `fit` would choose and why, as a config file that
`fit --config` reads. An option that is given is kept, and the others are planned around it.

examples:
  python -m training plan --data.root my-images
  python -m training plan --data.root my-images --data.patch '[256, 256]' --out plan.yaml
  python -m training fit --config plan.yaml
"""


def main(arguments: Sequence[str]) -> int:
    """Plan, and print the result or write it."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return 0
    parser = build_parser("plan")
    settings = parser.parse_args(list(arguments))
    given = given_options(parser, arguments)
    if settings.out is not None and settings.out.exists():
        raise RequestInvalid(f"{settings.out} exists; choose another --out")
    text = plan_text(given, look(given, data_config(settings, given)).choices())
    if settings.out is None:
        print(text, end="")
        return 0
    settings.out.write_text(text, encoding="utf-8")
    print(f"{settings.out} written. Next: python -m training fit --config {settings.out}")
    return 0


def plan_text(given: Mapping[str, Any], choices: Sequence[Choice]) -> str:
    """Return a config for ``fit``: what was given and what was planned, with reasons."""
    own = {name: value for name, value in given.items() if name not in ("out", "config")}
    kept = [Choice(name, value, "given") for name, value in own.items()]
    tree = nested([*kept, *choices])
    return with_reasons(block_yaml(tree), choices)
