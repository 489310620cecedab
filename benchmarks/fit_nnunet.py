"""Training by `fit` beside nnU-Net's own 2-D trainer: who does more steps a second.

Both sides have the same net and start weights, images, patch and batch sizes, precision and number
of loader processes; deep supervision is off. The rest of the other side is nnU-Net's: its
fingerprint and preprocessing, its transforms and loader, its loss, optimiser and schedule. So the
row compares two trainings as they come, not two loops around one.

nnU-Net is no dependency of this project: ``uv pip install nnunetv2==2.8.1`` into an environment of
its own that also holds this project's training extra.
"""

import argparse
import contextlib
import copy
import gc
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.command import add_training_options, bench_parser, finish
from benchmarks.fit_overhead import SETTINGS, Bench, Turn, compare, fit_turn, prepare
from benchmarks.record import Record, make_record
from benchmarks.turns import take_rounds

EXAMPLES = """examples:
  python -m benchmarks.fit_nnunet
  python -m benchmarks.fit_nnunet --steps 40 --repeats 7
  python -m benchmarks.fit_nnunet --out benchmarks/results/fit_nnunet.md
"""
TARGET = 1.0
PACKAGES = ("torch", "lightning", "nnunetv2", "batchgeneratorsv2", "numpy", "albumentations")
DATASET = "Dataset001_Phantoms"
# nnU-Net trains in float32 on a CPU, so only settings in float32 compare.
COMPARED = ("small", "tiny")


def write_nnunet_dataset(bench: Bench, folder: Path) -> Mapping[str, Any]:
    """Lay the bench's images out as nnU-Net expects them, plan and preprocess; return the plans.

    The plans are nnU-Net's own but for the patch and the batch, which are the bench's.
    """
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    for variable in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{variable}"] = str(folder / variable)
    os.environ["nnUNet_n_proc_DA"] = "1"  # noqa: SIM112  # its planner knows no 0
    raw = folder / "raw" / DATASET
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True)
    for case in bench.dataset.cases:
        shutil.copy(case.image, raw / "imagesTr" / f"{case.stem}_0000.png")
        shutil.copy(case.mask_files[0], raw / "labelsTr" / f"{case.stem}.png")
    described = {
        "channel_names": {str(c): f"channel {c}" for c in range(bench.dataset.channels)},
        "labels": {c.name: i for i, c in enumerate(bench.description.classes)},
        "numTraining": len(bench.dataset.cases),
        "file_ending": ".png",
    }
    (raw / "dataset.json").write_text(json.dumps(described))
    extract_fingerprints([1], num_processes=1, show_progress_bar=False)
    plan_experiments([1])
    planned = folder / "preprocessed" / DATASET / "nnUNetPlans.json"
    plans: dict[str, Any] = json.loads(planned.read_text())
    patch = bench.config.data.patch
    if patch is None:
        raise ValueError("the bench compares patches; the setting has a working size")
    plans["configurations"]["2d"] |= {
        "patch_size": list(patch),
        "batch_size": bench.config.data.batch_size,
    }
    planned.write_text(json.dumps(plans))
    preprocess([1], configurations=["2d"], num_processes=(1,), show_progress_bar=False)
    return plans


def nnunet_turn(bench: Bench, plans: Mapping[str, Any], folder: Path) -> Turn:
    """Train as nnU-Net does, on the bench's net."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    os.environ["nnUNet_n_proc_DA"] = str(bench.config.data.workers)  # noqa: SIM112
    net = copy.deepcopy(bench.graph.net).train()
    ended_s: list[list[float]] = []

    class Trainer(nnUNetTrainer):  # type: ignore[misc]  # untyped
        """Notes when each step ended; makes no plot and keeps no checkpoint of an epoch."""

        def __init__(self) -> None:
            super().__init__(
                copy.deepcopy({**plans, "continue_training": False}),
                "2d",
                "all",  # type: ignore[arg-type]
                json.loads((folder / "raw" / DATASET / "dataset.json").read_text()),
                torch.device("cpu"),
            )
            self.enable_deep_supervision = False
            self.num_epochs = bench.epochs
            self.num_iterations_per_epoch = len(bench.data().train_dataloader())
            self.num_val_iterations_per_epoch = 1  # it knows no epoch without validation
            self.disable_checkpointing = True

        @staticmethod
        def build_network_architecture(
            plans_manager: Any,
            configuration_manager: Any,
            num_input_channels: int,
            num_output_channels: int,
            enable_deep_supervision: bool = True,
        ) -> nn.Module:
            """Return the bench's net instead of the planned one."""
            return net

        def set_deep_supervision_enabled(self, enabled: bool) -> None:
            """Do nothing: the net has no such outputs."""

        def plot_network_architecture(self) -> None:
            """Do nothing: the plot belongs to no step."""

        def on_train_epoch_start(self) -> None:
            """Begin the epoch's list."""
            super().on_train_epoch_start()
            ended_s.append([])

        def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
            """Take the step and note the time."""
            out: dict[str, Any] = super().train_step(batch)
            ended_s[-1].append(time.perf_counter())
            return out

    Trainer().run_training()
    return Turn(ended_s, net.state_dict())


def measure(asked: argparse.Namespace) -> Record:
    """Make the data, take turns, and return what came out."""
    with tempfile.TemporaryDirectory(prefix="longskip-bench-") as name:
        folder = Path(name)
        bench = prepare(SETTINGS[asked.setting], folder, steps=asked.steps, epochs=asked.epochs + 1)
        with contextlib.redirect_stdout(io.StringIO()):
            plans = write_nnunet_dataset(bench, folder / "nnunet")

        def take_turns() -> dict[str, Turn]:
            turns: dict[str, Turn] = {}
            for side in ("fit", "nnunet"):
                with contextlib.redirect_stdout(io.StringIO()):
                    turns[side] = (
                        fit_turn(bench)
                        if side == "fit"
                        else nnunet_turn(bench, plans, folder / "nnunet")
                    )
                gc.collect()  # ends the loader's workers before the other side's turn
                print(f"  {side:<7}{turns[side].steps_per_s():8.2f} steps/s", flush=True)
            return turns

        rounds = take_rounds(take_turns, repeats=asked.repeats, patience=asked.patience)
    turns = [r.turn for r in rounds]
    counts = [[len(e) for e in t[side].ended_s] for t in turns for side in t]
    start = bench.graph.net.state_dict()
    moved = [
        any(not torch.equal(turn["nnunet"].weights[name], start[name]) for name in start)
        for turn in turns
    ]
    return make_record(
        f"fit against nnU-Net's trainer, setting {asked.setting}",
        settings=bench.settings(counted_steps=asked.steps * asked.epochs),
        # Its ends of epochs validate, ours here do not: only steps within epochs compare.
        rows=compare(turns, against="nnunet", target=TARGET)[:1],
        checks={
            "both sides took the same steps": all(count == counts[0] for count in counts),
            "nnU-Net trained this net": all(moved),
        },
        others=max(r.others for r in rounds),
        packages=PACKAGES,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it."""
    parser = bench_parser("fit_nnunet", doc=__doc__, examples=EXAMPLES)
    add_training_options(parser, settings=COMPARED, setting="small", steps=24)
    asked = parser.parse_args(arguments)
    return finish(measure(asked), asked.out)


if __name__ == "__main__":
    sys.exit(main())
