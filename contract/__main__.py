"""``python -m contract``: look at a model file, or take a foreign one into the repository."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from contract.adopt import adopt
from contract.errors import LongskipError, SpecInvalid
from contract.session import open_session
from contract.spec import ModelSpec

EXAMPLES = """\
examples:
  python -m contract show models/nuclei/1/model.onnx
  python -m contract adopt polyp.onnx --spec polyp.yaml
  python -m contract adopt ct.onnx --spec ct.yaml --to models --intensities -1000 3000
"""

ADOPT_TEXT = """\
The graph must keep the contract already; adopt checks that by running it and refuses otherwise:
  input   image          float32 [N, C, H, W], raw intensities, N, H and W dynamic, any size >= 1
  input   statistics     optional, float32 [1 or N, C, 2], an overridable initialiser
  output  labels         uint8 [N, H, W]; multilabel [N, K, H, W]
  output  probabilities  float32 [N, K, H, W], the background counted

a spec.yaml that suffices:
  name: polyp
  channels: 3
  colour_order: RGB
  classes:
    - {name: background, colour: [0, 0, 0]}
    - {name: polyp, colour: [255, 128, 0]}
  whole_image_max_pixels: 4000000
  licence: Apache-2.0

examples:
  python -m contract adopt polyp.onnx --spec polyp.yaml
  python -m contract adopt ct.onnx --spec ct.yaml --to models --intensities -1000 3000
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 1 with a line on stderr where something is wrong."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "show":
            print(_as_yaml(_read_spec(options.file)), end="")
        else:
            path = adopt(
                options.file,
                _read_yaml(options.spec),
                to=options.to,
                intensity_range=tuple(options.intensities),
                golden_size_hw=tuple(options.golden_size),
                seed=options.seed,
            )
            print(path)
    except (LongskipError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m contract", description=__doc__, epilog=EXAMPLES, formatter_class=raw
    )
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser(
        "show", help="print a model file's spec as YAML", epilog=EXAMPLES, formatter_class=raw
    )
    show.add_argument("file", type=Path, help="a model.onnx")
    take = commands.add_parser(
        "adopt",
        help="give a foreign ONNX segmentation model a spec and put it into the repository",
        description="Give a foreign ONNX segmentation model a spec, after running it.",
        epilog=ADOPT_TEXT,
        formatter_class=raw,
    )
    take.add_argument("file", type=Path, help="the ONNX file")
    take.add_argument("--spec", type=Path, required=True, help="YAML with the spec's fields")
    take.add_argument("--to", type=Path, default=Path("models"), help="default: models")
    take.add_argument(
        "--intensities",
        type=float,
        nargs=2,
        default=(0.0, 255.0),
        metavar=("LOW", "HIGH"),
        help="range of the raw intensities that the model takes; default: 0 255",
    )
    take.add_argument(
        "--golden-size",
        type=_positive,
        nargs=2,
        default=(64, 64),
        metavar=("H", "W"),
        help="pixels of the golden sample; default: 64 64",
    )
    take.add_argument(
        "--seed", type=_not_negative, default=0, help="of the made pictures; default: 0"
    )
    return parser


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _not_negative(text: str) -> int:
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {number}")
    return number


def _read_spec(file: Path) -> ModelSpec:
    metadata = open_session(file, device="cpu").get_modelmeta().custom_metadata_map
    return ModelSpec.from_metadata(metadata, source=str(file))


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        fields = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecInvalid(f"{file} cannot be read as YAML: {error}") from error
    if not isinstance(fields, dict):
        raise SpecInvalid(f"{file} must hold the spec's fields, got {type(fields).__name__}")
    return fields


def _as_yaml(spec: ModelSpec) -> str:
    # The golden answer is a wall of base64 that nobody reads.
    answer = {"golden": {"labels_b64", "probabilities_b64"}}
    fields = spec.model_dump(mode="json", exclude=answer)
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=100)


if __name__ == "__main__":
    sys.exit(main())
