"""``python -m training phantoms``: a data set to try things on, made in seconds."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from training.data.phantoms import CLASS_NAMES, write_phantoms

EXAMPLES = """examples:
  python -m training phantoms --out phantoms
  python -m training phantoms --out phantoms-16 --count 60 --size 256 320 --bits 16
  python -m training fit --data.root phantoms
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of ``phantoms``."""
    parser = argparse.ArgumentParser(
        prog="python -m training phantoms",
        description="Make synthetic micrographs and their masks: images/, masks/, dataset.yaml.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A mistyped option must not pass for a shortened one.
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, default=Path("phantoms"), help="folder (phantoms)")
    parser.add_argument("--count", type=int, default=32, help="number of pictures (32)")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(192, 192), metavar=("H", "W"), help="px (192 192)"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed, other pictures (0)")
    parser.add_argument(
        "--classes",
        type=int,
        choices=(2, 3, 4),
        default=2,
        help=f"how many of {', '.join(CLASS_NAMES)} are told apart (2)",
    )
    parser.add_argument("--bits", type=int, choices=(8, 16), default=8, help="8: PNG, 16: TIFF (8)")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Make the pictures and say what can be done with them."""
    parser = build_parser()
    settings = parser.parse_args(list(arguments))
    if settings.count < 1 or min(settings.size) < 1 or settings.seed < 0:
        parser.error("--count and --size must be >= 1, --seed >= 0")
    with tqdm(total=settings.count, desc="phantoms", unit="picture", disable=None) as bar:
        write_phantoms(
            settings.out,
            count=settings.count,
            size_hw=(settings.size[0], settings.size[1]),
            seed=settings.seed,
            classes=settings.classes,
            bits=settings.bits,
            on_written=lambda written: bar.update(written - bar.n),
        )
    print(f"{settings.out}: {settings.count} pictures with masks and dataset.yaml")
    print(f"next: python -m training fit --data.root {settings.out}")
    return 0
