"""``python -m training fit``: settings from a YAML file and the command line."""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import lightning as L
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.callbacks import Callback

from contract.errors import RequestInvalid
from training.data.augment import AugmentConfig
from training.data.config import DataConfig
from training.data.folder import FolderDataset
from training.fit.config import FitConfig
from training.fit.fit import fit, rank
from training.fit.losses import LossConfig
from training.fit.optimiser import OptimiserConfig
from training.fit.run_directory import RunDirectory
from training.fit.stop import requeued_run
from training.nets.config import NetConfig
from training.plan.keep_time import KeepToTime
from training.plan.rules import Choice, Pace
from training.plan.settings import Planned, planned_settings
from training.plan.written import with_reasons

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
    parser.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=5.0,
        help="write last.ckpt this often within an epoch; 0: after each step",
    )
    parser.add_argument(
        "--channels-last",
        type=bool,
        default=False,
        help="tensors of the net lie as [B, H, W, C] in memory; faster on many GPUs and CPUs",
    )
    parser.add_argument(
        "--compile",
        type=bool,
        default=False,
        help="let torch.compile write the net's training code; minutes at the start, then faster",
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
    """Parse, plan what is open, train, and say where the result lies."""
    parser = build_parser()
    settings = parser.parse_args(list(arguments))
    minutes = settings.max_minutes
    deadline_s = None if minutes is None else time.monotonic() + 60 * minutes
    planned = Planned(settings)
    if settings.resume is not None:
        settings = _settings_of_run(parser, settings, arguments)
    elif (requeued := requeued_run(settings.out)) is not None:
        settings.resume = requeued
        settings = _settings_of_run(parser, settings, [])
    else:
        planned = _planned(parser, arguments, settings, deadline_s)
        settings = planned.settings
    config = _config(parser, settings)
    if deadline_s is not None and planned.dataset is not None:
        # Checking and measuring took their part of the time.
        config = replace(config, max_minutes=max((deadline_s - time.monotonic()) / 60, 0.01))
    if settings.resume is not None or planned.keeps_time:
        end_s = deadline_s if planned.keeps_time and deadline_s is not None else math.inf
        config = with_callback(config, KeepToTime(end_s))
    run = fit(
        config,
        save_config=lambda path: write_settings(parser, settings, planned.choices, path),
        dataset=planned.dataset,
    )
    if rank() == 0:
        print(f"done. Next: python -m training export {run.root} --name my-model")
    return 0


def _planned(
    parser: ArgumentParser,
    arguments: Sequence[str],
    settings: Namespace,
    deadline_s: float | None,
) -> Planned:
    def measure(settings: Namespace, dataset: FolderDataset) -> Pace:
        from training.plan.pace import measure_pace

        if deadline_s is None:
            raise ValueError("a pace is measured for a time limit, and there is none")
        return measure_pace(_config(parser, settings), dataset, deadline_s=deadline_s)

    planned = planned_settings(parser, arguments, settings, deadline_s=deadline_s, measure=measure)
    if rank() == 0 and planned.choices:
        print("planned, with reasons in the run's config.yaml:")
        for choice in planned.choices:
            print(f"  {choice.option} {choice.value}")
    return planned


def with_callback(config: FitConfig, callback: Callback) -> FitConfig:
    """Return ``config`` with one callback more beside those that its settings name."""
    own = config.trainer.get("callbacks") or []
    own = own if isinstance(own, list) else [own]
    return replace(config, trainer={**config.trainer, "callbacks": [*own, callback]})


def write_settings(
    parser: ArgumentParser, settings: Namespace, choices: Sequence[Choice], path: Path
) -> None:
    """Write the resolved settings as YAML, planned ones with their reasons."""
    path.write_text(with_reasons(parser.dump(settings, skip_none=False), choices), encoding="utf-8")


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
        for name in (
            *("normalising", "seed", "out", "init_from", "resume", "max_minutes"),
            *("checkpoint_minutes", "channels_last", "compile"),
        )
    }
    try:
        return FitConfig(**fields, **plain, trainer=vars(built.trainer))
    except ValueError as error:
        raise RequestInvalid(str(error)) from error
