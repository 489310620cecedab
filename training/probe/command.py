"""``python -m training probe``: look into a trained net, by one instrument at a time."""

import argparse
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from contract.errors import RequestInvalid

if TYPE_CHECKING:
    from training.probe.probed import Probed

Probe = Callable[["Probed", Path], dict[str, float]]
Comparison = Callable[[Sequence["Probed"], Path], dict[str, float]]

# name: what it tells. The module of the same name has `probe_<name>`, and where two nets can be
# held against each other also `compare_<name>`.
INSTRUMENTS: dict[str, str] = {
    "boundary": "errors by distance to the true boundary: does it err on where, or on what?",
    "lesion": "Dice lost when a long skip, a residual block or a plain layer is taken away",
    "shift": "Dice on images of blended texture, noise, blur and gamma, by strength",
    "landscape": "how the loss rises about the trained weights, on lines and on a plane",
    "cost": "parameters, multiply-accumulates, activation memory, ms of the exported file",
}
EXAMPLES = """examples:
  python -m training probe cost runs/my-images-concat-1
  python -m training probe cost runs/my-images-concat-1 --against runs/my-images-none-1
  python -m training probe cost runs/my-images-concat-1/checkpoints/last.ckpt \\
      --data.root /new/place/of/my-images --part test --limit 10 --out probes
"""


def _late(name: str, kind: str) -> Any:
    """Return the instrument; torch takes seconds to import, so it is loaded when it is called."""

    def run(looked_at: Any, folder: Path) -> dict[str, float]:
        module = importlib.import_module(f"training.probe.{name.replace('-', '_')}")
        found: dict[str, float] = getattr(module, f"{kind}_{name.replace('-', '_')}")(
            looked_at, folder
        )
        return found

    return run


PROBES: dict[str, Probe] = {name: _late(name, "probe") for name in INSTRUMENTS}
"""Each looks at one trained net, writes CSV and figures into a folder, and returns its headline
figures."""
COMPARISONS: dict[str, Comparison] = {name: _late(name, "compare") for name in INSTRUMENTS}
"""The same for several nets on the same images, in one table and on one scale."""


def build_parser() -> ArgumentParser:
    """Return the command line of ``probe``."""
    width = max(map(len, INSTRUMENTS))
    listed = "\n".join(f"  {name:<{width}}  {text}" for name, text in INSTRUMENTS.items())
    parser = ArgumentParser(
        prog="python -m training probe",
        description="Look into a trained net. Writes CSV, PNG and SVG, and prints the headline "
        "figures.",
        epilog=f"probes:\n{listed}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A mistyped option must not pass for a shortened one.
        allow_abbrev=False,
    )
    parser.add_argument("probe", choices=list(INSTRUMENTS), help="which instrument")
    parser.add_argument("run", type=Path, help="run directory that fit wrote, or a checkpoint")
    parser.add_argument(
        "--against",
        type=Path | None,
        default=None,
        help="a second run or checkpoint, looked at with the same images",
    )
    parser.add_argument(
        "--data.root", type=Path | None, default=None, help="the data set, where it has moved since"
    )
    parser.add_argument(
        "--data.spec", type=Path | None, default=None, help="dataset.yaml elsewhere"
    )
    parser.add_argument(
        "--part",
        choices=["train", "val", "test"],
        default=None,
        help="images of the run's split (val); a checkpoint without a run takes all of the folder",
    )
    parser.add_argument(
        "--limit", type=int | None, default=None, help="no more images than this, drawn by --seed"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument(
        "--out",
        type=Path | None,
        default=None,
        help="folder for the results; by default RUN/probes/PROBE, for a checkpoint beside it",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Open, look, write, and print the headline figures."""
    settings = build_parser().parse_args(list(arguments))
    if settings.limit is not None and settings.limit < 1:
        raise RequestInvalid(f"--limit must be 1 or more, got {settings.limit}")
    # torch and Lightning take seconds to import; --help and usage errors do without.
    from training.probe.probed import open_beside, open_probed, seen_in_training

    probed = open_probed(
        settings.run,
        root=settings.data.root,
        spec=settings.data.spec,
        part=settings.part,
        limit=settings.limit,
        seed=settings.seed,
        device=settings.device,
    )
    nets = [probed]
    if settings.against is not None:
        nets.append(open_beside(probed, settings.against))
    for net in nets:
        warning = seen_in_training(net)
        if warning is not None:
            print(f"warning: {warning}")
    folder = settings.out or _beside(settings.run, settings.probe, settings.against)
    if len(nets) == 1:
        figures = PROBES[settings.probe](probed, folder)
    else:
        figures = COMPARISONS[settings.probe](nets, folder)
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"probe": settings.probe, "nets": [n.name for n in nets], "images": len(probed.stems)}
    rounded = {name: float(f"{value:.6g}") for name, value in figures.items()}
    text = json.dumps({**facts, "seed": settings.seed, "figures": rounded}, indent=2)
    (folder / "figures.json").write_text(text.replace("NaN", "null") + "\n", encoding="utf-8")
    width = max(map(len, figures), default=0)
    for name, value in figures.items():
        print(
            f"{name:<{width}}  {value:,.0f}"
            if abs(value) >= 1e4
            else f"{name:<{width}}  {value:.4g}"
        )
    print(f"{folder}/: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    return 0


def _beside(source: Path, probe: str, against: Path | None) -> Path:
    root = source if source.is_dir() else source.parent.parent
    if not source.is_dir() and not (root / "config.yaml").is_file():
        root = source.parent
    return root / "probes" / (probe if against is None else f"{probe}-against")
