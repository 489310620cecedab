"""The command line of ``fit``."""

import argparse
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from training.data.config import DataConfig
from training.data.recipe import AugmentConfig
from training.fit.config import LossConfig, OptimiserConfig
from training.nets.config import NetConfig

EXAMPLES = """examples:
  python -m training fit --data.root my-images
  python -m training fit --data.root my-images --net.long_skips none --out runs/no-skips
  python -m training fit --data.root my-images --net.long_skips none,concat,concat
  python -m training fit --config training/configs/nuclei.yaml --trainer.max_epochs 5
  python -m training fit --resume runs/no-skips

my-images/ holds images/ and masks/ with identical stems; masks hold class indices.
What is not given is planned from the images and this machine; `python -m training plan` shows it.
--trainer.NAME is any option of Lightning's Trainer: `fit --help trainer` lists them.
"""

GROUPS = {
    "data": DataConfig,
    "net": NetConfig,
    "loss": LossConfig,
    "optimiser": OptimiserConfig,
    "augment": AugmentConfig,
}


def build_parser(command: str = "fit", *, trainer: bool = True) -> ArgumentParser:
    """Return the command line of ``fit``, which is that of ``plan`` as well.

    Args:
        command: its name.
        trainer: with all of Lightning's Trainer under ``trainer.``. Its options are read from its
            signature, and importing Lightning takes most of the time that an answer takes; the
            list of options does without.
    """
    parser = ArgumentParser(
        prog=f"python -m training {command}",
        # Without this, each wrong option is buried under a hundred lines of usage.
        usage=f"python -m training {command} [--config FILE] --data.root DIR [options; see --help]",
        description="Train a net on a folder of images and masks.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A mistyped option must not pass for a shortened one.
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="YAML file of settings")
    for name, group in GROUPS.items():
        parser.add_class_arguments(group, name)
    if trainer:
        _add_trainer(parser)
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
        help="of all that is random; data.seed holds split, order and augmentation while it varies",
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
    return parser


def _add_trainer(parser: ArgumentParser) -> None:
    import lightning as L  # takes seconds

    parser.add_class_arguments(
        L.Trainer,
        "trainer",
        skip={"default_root_dir", "use_distributed_sampler"},
        instantiate=False,
    )
    parser.set_defaults(
        {
            "trainer.max_epochs": 50,
            "trainer.log_every_n_steps": 10,
            "trainer.enable_model_summary": False,
            "trainer.num_sanity_val_steps": 0,
        }
    )
