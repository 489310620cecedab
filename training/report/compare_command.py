"""``python -m training compare``: runs side by side."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from contract.errors import RequestInvalid

EXAMPLES = """examples:
  python -m training compare runs/my-images-concat-1 runs/my-images-none-1
  python -m training compare runs/*/ --out comparison.html
"""


def build_parser() -> ArgumentParser:
    """Return the command line of ``compare``."""
    parser = ArgumentParser(
        prog="python -m training compare",
        description="Hold runs against the first one: settings that differ, curves, scores of the "
        "common validation images with paired differences, and what each run cost.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A mistyped option must not pass for a shortened one.
        allow_abbrev=False,
    )
    parser.add_argument("runs", type=Path, nargs="+", help="two or more run directories")
    parser.add_argument("--out", type=Path | None, default=None, help="also write an HTML page")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Read, compare, print, and write the page where one is asked for."""
    settings = build_parser().parse_args(list(arguments))
    if len(settings.runs) < 2:
        raise RequestInvalid("one run came; give at least two to compare")
    # torch and Lightning take seconds to import; --help and usage errors do without.
    from training.report.compare import compare
    from training.report.compare_page import as_html, as_text
    from training.report.record import read_run

    comparison = compare([read_run(root) for root in settings.runs])
    print(as_text(comparison))
    if settings.out is not None:
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        settings.out.write_text(as_html(comparison), encoding="utf-8")
        print(f"\n{settings.out} ({settings.out.stat().st_size / 1e6:.1f} MB, one file)")
    return 0
