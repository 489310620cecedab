"""What the benches' command lines share: turns, where the result goes, the exit status."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.record import Record, show_record, write_record


def bench_parser(name: str, *, doc: str | None, examples: str) -> argparse.ArgumentParser:
    """Return the command line of ``python -m benchmarks.<name>``."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=doc,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repeats", type=at_least(1), default=5, help="turns of each side (5)")
    parser.add_argument(
        "--patience", type=at_least(0), default=5, help="disturbed rounds that are taken again (5)"
    )
    parser.add_argument("--out", type=Path, help="write the result here, .md or .json")
    return parser


def add_training_options(
    parser: argparse.ArgumentParser, *, settings: Iterable[str], setting: str, steps: int
) -> None:
    """Add what the benches of `fit` share; ``setting`` and ``steps`` are their defaults."""
    parser.add_argument(
        "--setting", choices=settings, default=setting, help=f"net, patch and batch ({setting})"
    )
    parser.add_argument(
        "--steps", type=at_least(2), default=steps, help=f"steps of one epoch ({steps})"
    )
    parser.add_argument(
        "--epochs", type=at_least(1), default=2, help="counted epochs of a turn (2)"
    )


def at_least(least: int) -> Callable[[str], int]:
    """Return an option's type: a whole number from ``least`` on."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be >= {least}, got {value}")
        return value

    return number


def finish(record: Record, out: Path | None) -> int:
    """Print the table, write it where asked, and return the exit status: 0 where checks hold."""
    show_record(record)
    if out is not None:
        write_record(record, out)
        print(f"written to {out}")
    return 0 if all(record.checks.values()) else 1
