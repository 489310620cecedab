"""``python -m training probe``: look into a trained net, by one instrument at a time."""

import argparse
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from contract.errors import RequestInvalid

# Called with a net (nets) and a folder; what OPTIONS names can be given by keyword.
Probe = Callable[..., dict[str, float]]
Comparison = Callable[..., dict[str, float]]

# name: what it tells. The module of the same name has `probe_<name>`, and, where two nets can be
# held against each other, `compare_<name>`.
INSTRUMENTS: dict[str, str] = {
    "boundary": "errors by distance to the true boundary: does it err on where, or on what?",
    "lesion": "Dice lost when a long skip, a residual block or a plain layer is taken away",
    "shift": "Dice on images of blended texture, noise, blur and gamma, by strength",
    "landscape": "how the loss rises about the trained weights, on lines and on a plane",
    "cost": "parameters, multiply-accumulates, activation memory, ms of the exported file",
    "gradient-flow": "the gradient of each layer by depth, at the trained weights",
    "norm-preservation": "how far each unit keeps the gradient's norm on its way back",
    "path-lengths": "the share of the gradient by length of the ways through a residual net",
}
# They look at one net's own depth, and two nets need not have the same.
ALONE = ("gradient-flow", "norm-preservation", "path-lengths")
# option: the probe that takes it, and by which keyword.
OPTIONS = {
    "grid": ("landscape", "points"),
    "gains": ("lesion", "gains"),
    "side": ("cost", "side_px"),
}

MOST_SEED = 2**32 - 1  # what all generators take, NumPy's old one and torch's included

EXAMPLES = """examples:
  python -m training probe boundary runs/my-images-concat-1 --against runs/my-images-none-1
  python -m training probe lesion runs/my-images-concat-1 --gains 0,0.25,0.5,0.75 --limit 20
  python -m training probe shift runs/my-images-concat-1 --against runs/my-images-none-1
  python -m training probe landscape runs/my-images-concat-1 --grid 11 --part train
  python -m training probe cost runs/my-images-concat-1/checkpoints/last.ckpt \\
      --data.root /new/place/of/my-images --side 512 --out probes
"""


def _late(name: str, kind: str) -> Any:
    """Return the instrument; torch takes seconds to import, so it is loaded when it is called."""

    def run(looked_at: Any, folder: Path, **options: Any) -> dict[str, float]:
        word = name.replace("-", "_")
        module = importlib.import_module(f"training.probe.{word}")
        found: dict[str, float] = getattr(module, f"{kind}_{word}")(looked_at, folder, **options)
        return found

    return run


PROBES: dict[str, Probe] = {name: _late(name, "probe") for name in INSTRUMENTS}
"""Each looks at one trained net, writes CSV and figures into a folder, and returns its headline
figures."""
COMPARISONS: dict[str, Comparison] = {
    name: _late(name, "compare") for name in INSTRUMENTS if name not in ALONE
}
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
        "--grid",
        type=int | None,
        default=None,
        help="landscape: points along a line and each side of the plane, odd (21); the time grows "
        "with its square",
    )
    parser.add_argument(
        "--gains", type=str | None, default=None, help="lesion: of long skips, with commas (0,0.5)"
    )
    parser.add_argument(
        "--side", type=int | None, default=None, help="cost: height and width in px (256)"
    )
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
    options = _options(settings)
    if settings.against is not None and settings.probe not in COMPARISONS:
        raise RequestInvalid(f"{settings.probe} looks at one net; leave --against out")
    if not 0 <= settings.seed <= MOST_SEED:
        raise RequestInvalid(f"--seed must be 0 to {MOST_SEED}, got {settings.seed}")
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
        figures = PROBES[settings.probe](probed, folder, **options)
    else:
        figures = COMPARISONS[settings.probe](nets, folder, **options)
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


def _options(settings: Any) -> dict[str, Any]:
    """Return the keywords of what was given for this probe alone.

    Raises:
        RequestInvalid: an option of another probe, or a value that cannot be.
    """
    given: dict[str, Any] = {}
    for option, (probe, keyword) in OPTIONS.items():
        value = getattr(settings, option)
        if value is None:
            continue
        if probe != settings.probe:
            raise RequestInvalid(
                f"--{option} is an option of the probe {probe}, not of {settings.probe}"
            )
        given[keyword] = _gains(value) if option == "gains" else value
    if given.get("side_px", 1) < 1:
        raise RequestInvalid(f"--side must be 1 px or more, got {settings.side}")
    return given


def _gains(words: str) -> tuple[float, ...]:
    try:
        gains = tuple(float(word) for word in words.split(","))
    except ValueError:
        gains = ()
    if not gains or not all(0 <= gain < 1 for gain in gains) or 0 not in gains:
        raise RequestInvalid(
            f"--gains takes numbers from 0 up to 1 with commas, 0 among them, such as 0,0.25,0.5; "
            f"got {words!r}"
        )
    return gains


def _beside(source: Path, probe: str, against: Path | None) -> Path:
    root = source if source.is_dir() else source.parent.parent
    if not source.is_dir() and not (root / "config.yaml").is_file():
        root = source.parent
    return root / "probes" / (probe if against is None else f"{probe}-against")
