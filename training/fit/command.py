"""``python -m training fit``: settings from a YAML file and the command line."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import lightning as L
from jsonargparse import ArgumentParser, Namespace

from contract.errors import RequestInvalid
from training.data.augment import AugmentConfig
from training.data.datamodule import DataConfig
from training.fit.config import FitConfig
from training.fit.fit import fit, rank
from training.fit.losses import LossConfig
from training.fit.optimiser import OptimiserConfig
from training.fit.run_directory import RunDirectory
from training.nets.config import NetConfig

EXAMPLES = """examples:
  python -m training fit --data.root my-images
  python -m training fit --data.root my-images --net.long_skips none --out runs/no-skips
  python -m training fit --data.root my-images --net.long_skips none,concat,concat
  python -m training fit --config training/configs/nuclei.yaml --trainer.max_epochs 5
  python -m training fit --resume runs/no-skips

my-images/ holds images/ and masks/ with identical stems; masks hold class indices.
"""

GROUPS = {
    "data": DataConfig,
    "net": NetConfig,
    "loss": LossConfig,
    "optimiser": OptimiserConfig,
    "augment": AugmentConfig,
}


def build_parser() -> ArgumentParser:
    """Return the command line of ``fit``."""
    parser = ArgumentParser(
        prog="python -m training fit",
        # Without this, each wrong option is buried under a hundred lines of usage.
        usage="python -m training fit [--config FILE] --data.root DIR [options; see --help]",
        description="Train a net on a folder of images and masks.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A mistyped option must not pass for a shortened one.
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="YAML file of settings")
    for name, group in GROUPS.items():
        parser.add_class_arguments(group, name)
    parser.add_class_arguments(
        L.Trainer,
        "trainer",
        skip={"default_root_dir", "use_distributed_sampler"},
        instantiate=False,
    )
    parser.add_argument(
        "--normalising",
        type=Literal["image", "fixed"],
        default="image",
        help="each channel by the image's own mean and std, or by those of the training images "
        "(where absolute intensities carry meaning)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the weights; data.seed is that of split, order and augmentation",
    )
    parser.add_argument(
        "--out",
        type=Path | None,
        default=None,
        help="run directory; by default runs/<data set>-<skips>-<number>",
    )
    parser.add_argument(
        "--init-from",
        type=Path | None,
        default=None,
        help="checkpoint whose fitting weights are the start",
    )
    parser.add_argument(
        "--resume", type=Path | None, default=None, help="run directory to go on with"
    )
    parser.add_argument(
        "--max-minutes",
        type=float | None,
        default=None,
        help="stop after this time; the best checkpoint so far is kept",
    )
    parser.set_defaults(
        {
            "trainer.max_epochs": 50,
            "trainer.log_every_n_steps": 10,
            "trainer.enable_model_summary": False,
            "trainer.num_sanity_val_steps": 0,
        }
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Parse, train, and say where the result lies."""
    parser = build_parser()
    settings = parser.parse_args(list(arguments))
    if settings.resume is not None:
        settings = _settings_of_run(parser, settings, arguments)
    run = fit(
        _config(parser, settings),
        save_config=lambda path: parser.save(settings, path, overwrite=True, multifile=False),
    )
    if rank() == 0:
        print(f"done. Next: python -m training export {run.root} --name my-model")
    return 0


def _settings_of_run(
    parser: ArgumentParser, given: Namespace, arguments: Sequence[str]
) -> Namespace:
    """Return the earlier run's own settings; only the time limit may be another."""
    options = {text.split("=")[0] for text in arguments if text.startswith("--")}
    others = sorted(options - {"--resume", "--max-minutes"})
    if others:
        raise RequestInvalid(
            f"--resume goes on with the run's own settings, so {', '.join(others)} cannot be "
            "given; start a new run with --init-from to change settings"
        )
    run = RunDirectory(Path(given.resume))
    run.checkpoint("last")  # refuses with a clear text when there is nothing to resume
    settings: Namespace = parser.parse_path(run.config)
    settings.resume, settings.out, settings.init_from = run.root, None, None
    settings.max_minutes = given.max_minutes
    return settings


def _config(parser: ArgumentParser, settings: Namespace) -> FitConfig:
    """Return the typed settings; groups and Lightning's own classes are instantiated."""
    try:
        built = parser.instantiate(settings)
    except ValueError as error:  # the settings' own checks
        raise RequestInvalid(str(error)) from error
    fields = {name: built[name] for name in GROUPS}
    plain = {
        name: getattr(built, name)
        for name in ("normalising", "seed", "out", "init_from", "resume", "max_minutes")
    }
    return FitConfig(**fields, **plain, trainer=vars(built.trainer))
