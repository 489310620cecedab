"""``python -m training bench``: time and memory of a model file and the variants beside it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser
from tqdm import tqdm

from contract.errors import RequestInvalid
from contract.model import Model
from training.bench.measure import measure
from training.bench.record import load_per_core, make_record, table, write_record

LARGEST_SIDE_PX = 1 << 14
# Other work on the machine widens the spread of the times above this.
BUSY_LOAD = 0.3

EXAMPLES = """examples:
  python -m training bench models/nuclei/1/model.onnx
  python -m training bench models/nuclei/1/model.onnx --sizes 256,512 --batches 1 --threads 1
  python -m training bench models/nuclei/1/model.onnx --alone --device cuda --out bench-gpu
"""


def build_parser() -> ArgumentParser:
    """Return the command line of ``bench``."""
    parser = ArgumentParser(
        prog="python -m training bench",
        description="Measure latency, images per second and peak memory of a model file and the "
        "precision variants beside it, by size and batch. Each file runs in a fresh process; the "
        "files take turns, so that other load touches all alike.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A mistyped option must not pass for a shortened one.
        allow_abbrev=False,
    )
    parser.add_argument("model", type=Path, help="the .onnx file; speeds are compared with it")
    parser.add_argument(
        "--sizes", type=str, default="256,512,1024", help="sides of square images, px"
    )
    parser.add_argument("--batches", type=str, default="1,4", help="images per run")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "tensorrt"], default="cpu")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (all usable cores)")
    parser.add_argument("--turns", type=int, default=15, help="timed runs per file")
    parser.add_argument("--alone", action="store_true", help="without the variants beside MODEL")
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder for the results")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write JSON and CSV."""
    settings = build_parser().parse_args(list(arguments))
    sizes = whole_numbers("--sizes", settings.sizes, largest=LARGEST_SIDE_PX)
    batches = whole_numbers("--batches", settings.batches, largest=1024)
    for name, number in (("--turns", settings.turns), ("--threads", settings.threads)):
        if number is not None and number < 1:
            raise RequestInvalid(f"{name} must be 1 or more, got {number}")
    model = Model.open(settings.model, device=settings.device, threads=settings.threads)
    files = [settings.model] if settings.alone else files_beside(settings.model)
    load = load_per_core()
    if load is not None and load > BUSY_LOAD:
        print(
            f"other work runs here ({load:g} processes per core): trust the ratios, not the times"
        )
    found = []
    places = [(size, batch) for size in sizes for batch in batches]
    with tqdm(total=len(places) * settings.turns, unit="turn", disable=None) as progress:
        for size, batch in places:
            progress.set_description(f"{size} px, batch {batch}")
            found += measure(
                files,
                side_px=size,
                batch=batch,
                device=settings.device,
                threads=settings.threads,
                turns=settings.turns,
                tick=progress.update,
            )
    record = make_record(
        model.spec.name,
        found,
        device=settings.device,
        threads=settings.threads,
        load_before=load,
    )
    print(table(record))
    whole, rows = write_record(record, settings.out)
    print(f"{whole}, {rows}")
    return 0


def files_beside(model: Path) -> list[Path]:
    """Return ``model`` and, where it is ``x.onnx``, each ``x.<precision>.onnx`` beside it."""
    variants = sorted(model.parent.glob(f"{model.stem}.*{model.suffix}"))
    return [model, *(path for path in variants if path != model)]


def whole_numbers(option: str, words: str, *, largest: int) -> list[int]:
    """Return the numbers in ``words``, e.g. ``256,512``.

    Raises:
        RequestInvalid: one is no whole number from 1 to ``largest``.
    """
    numbers = []
    for word in words.split(","):
        if not word.strip().isdecimal() or not 1 <= int(word) <= largest:
            raise RequestInvalid(
                f"{option} takes whole numbers from 1 to {largest}, separated by commas, e.g. "
                f"{option} 256,512; got {words!r}"
            )
        numbers.append(int(word))
    return list(dict.fromkeys(numbers))
