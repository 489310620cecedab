"""What `fit` costs beside a bare PyTorch loop: same net, loss, batches, optimiser, schedule.

Ours is the LightningModule in the Trainer that `fit` builds, with its loggers and callbacks. The
two sides take turns in one process; each turn starts from the same weights, and both must end at
the same weights, or they would not have done the same work.
"""

import argparse
import contextlib
import copy
import gc
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from benchmarks.command import add_training_options, bench_parser, finish
from benchmarks.record import Record, Row, make_record
from benchmarks.turns import take_rounds
from training.data.datamodule import SegmentationData
from training.data.fingerprint import fingerprint
from training.data.folder import IGNORE, FolderDataset
from training.data.phantoms import write_phantoms
from training.fit.checkpoint import Description
from training.fit.command import GROUPS
from training.fit.command import build_parser as build_fit_parser
from training.fit.config import FitConfig
from training.fit.fit import build_trainer, describe
from training.fit.losses import build_loss
from training.fit.module import SegmentationModule
from training.fit.optimiser import build_optimiser, build_schedule
from training.fit.run_directory import create_run_directory
from training.graph.assemble import ModelGraph

EXAMPLES = """examples:
  python -m benchmarks.fit_overhead
  python -m benchmarks.fit_overhead --setting small --repeats 7
  python -m benchmarks.fit_overhead --out benchmarks/results/fit_overhead.md
"""
TARGET = 0.97
PACKAGES = ("torch", "lightning", "numpy", "albumentations")
PHANTOM_SIZE_HW = (256, 256)
# Epoch 0 starts the workers, fills the cache and warms the allocator: it is not counted.
WARM_UP_EPOCHS = 1


@dataclass(frozen=True)
class Bench:
    """What both sides share in all turns."""

    config: FitConfig
    dataset: FolderDataset
    description: Description
    graph: ModelGraph
    folder: Path

    @property
    def epochs(self) -> int:
        """Epochs of one turn, the warm-up with them."""
        return int(self.config.trainer["max_epochs"])

    def settings(self, *, counted_steps: int) -> dict[str, str | int]:
        """Return what a kept result has to say of the bench."""
        data = self.config.data
        return {
            "widths": "-".join(map(str, self.config.net.widths)),
            "patch": "x".join(map(str, data.patch or ())),
            "batch": data.batch_size,
            "precision": str(self.config.trainer["precision"]),
            "loader workers": data.workers,
            "torch threads": torch.get_num_threads(),
            "counted steps per turn": counted_steps,
        }

    def data(self) -> SegmentationData:
        """Return the loader as `fit` makes it."""
        return SegmentationData(
            self.config.data, self.config.augment, dataset=self.dataset, progress=False
        )

    def loss(self) -> nn.Module:
        """Return the loss as `fit` makes it."""
        return build_loss(
            self.config.loss,
            task=self.description.task,
            classes=len(self.description.classes),
            ignore=IGNORE,
        )


@dataclass(frozen=True)
class Turn:
    """One side's turn: when each step of each epoch ended, and the weights at the end."""

    ended_s: list[list[float]]
    weights: dict[str, Tensor]

    def steps_per_s(self) -> float:
        """Rate within the counted epochs, from the end of each one's first step to its last."""
        counted = self.ended_s[WARM_UP_EPOCHS:]
        return sum(len(e) - 1 for e in counted) / sum(e[-1] - e[0] for e in counted)

    def steps_per_s_with_epoch_ends(self) -> float:
        """Rate over the counted epochs, checkpoints and the loader's restart included."""
        counted = self.ended_s[WARM_UP_EPOCHS:]
        return sum(map(len, counted)) / (counted[-1][-1] - self.ended_s[WARM_UP_EPOCHS - 1][-1])


class StepClock(L.Callback):
    """Notes when each step of each epoch ended."""

    def __init__(self) -> None:
        self.ended_s: list[list[float]] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the epoch's list."""
        self.ended_s.append([])

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the time."""
        self.ended_s[-1].append(time.perf_counter())


def fit_turn(bench: Bench) -> Turn:
    """Train as `fit` does."""
    clock = StepClock()
    config = replace(bench.config, trainer={**bench.config.trainer, "callbacks": [clock]})
    module = SegmentationModule(
        copy.deepcopy(bench.graph),
        loss=bench.loss(),
        optimiser=config.optimiser,
        class_names=tuple(c.name for c in bench.description.classes),
        ignore=IGNORE,
    )
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        run = create_run_directory(Path(folder), name="bench")
        trainer = build_trainer(config, run, bench.description, validates=False)
        trainer.fit(module, datamodule=bench.data())
    return Turn(clock.ended_s, module.graph.state_dict())


def bare_turn(bench: Bench) -> Turn:
    """Train with nothing around the net."""
    graph = copy.deepcopy(bench.graph).train()
    loss = bench.loss()
    loader = bench.data().train_dataloader()
    optimiser = build_optimiser(graph, bench.config.optimiser)
    steps = bench.epochs * len(loader)
    schedule = build_schedule(optimiser, bench.config.optimiser, steps=steps)
    bf16 = bench.config.trainer.get("precision") == "bf16-mixed"
    ended_s: list[list[float]] = []
    for epoch in range(bench.epochs):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        ended_s.append([])
        for batch in loader:
            optimiser.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                value = loss(graph.logits(batch["image"], batch["statistics"]), batch["mask"])
            value.backward()
            optimiser.step()
            schedule.step()
            ended_s[-1].append(time.perf_counter())
    return Turn(ended_s, graph.state_dict())


SIDES: dict[str, Callable[[Bench], Turn]] = {"fit": fit_turn, "bare": bare_turn}


Turns = dict[str, Turn]
"""One turn of each side."""


def take_turns(bench: Bench) -> Turns:
    """Run fit, then bare, and say what each gave."""
    turns: Turns = {}
    for side, run in SIDES.items():
        said = io.StringIO()  # fit's own progress lines; its bar, in a terminal, stays
        with contextlib.redirect_stdout(said):
            turns[side] = run(bench)
        gc.collect()  # ends the loader's workers before the other side's turn
        print(f"  {side:<5}{turns[side].steps_per_s():8.2f} steps/s", flush=True)
    return turns


def compare(turns: Sequence[Turns], *, against: str, target: float) -> list[Row]:
    """Return the two comparisons of fit with the side ``against``."""
    return [
        _row("steps/s within epochs", turns, Turn.steps_per_s, against, target),
        _row(
            "steps/s with epoch ends (fit writes checkpoints)",
            turns,
            Turn.steps_per_s_with_epoch_ends,
            against,
            None,
        ),
    ]


def same_weights(turns: Sequence[Turns]) -> bool:
    """Tell whether all turns of both sides ended at the same weights, bit for bit."""
    first, *others = [turn.weights for sides in turns for turn in sides.values()]
    return all(torch.equal(first[name], other[name]) for other in others for name in first)


def measure(asked: argparse.Namespace) -> Record:
    """Make the data, take turns, and return what came out."""
    with tempfile.TemporaryDirectory(prefix="longskip-bench-") as folder:
        epochs = asked.epochs + WARM_UP_EPOCHS
        bench = prepare(SETTINGS[asked.setting], Path(folder), steps=asked.steps, epochs=epochs)
        rounds = take_rounds(
            lambda: take_turns(bench), repeats=asked.repeats, patience=asked.patience
        )
    turns = [r.turn for r in rounds]
    return make_record(
        f"fit against a bare loop, setting {asked.setting}",
        settings={
            **bench.settings(counted_steps=asked.steps * asked.epochs),
            "progress": "bar" if sys.stderr.isatty() else "lines",
        },
        rows=compare(turns, against="bare", target=TARGET),
        checks={"both sides end at the same weights, bit for bit": same_weights(turns)},
        others=max(r.others for r in rounds),
        packages=PACKAGES,
    )


def prepare(options: Sequence[str], folder: Path, *, steps: int, epochs: int) -> Bench:
    """Write phantoms and build what both sides share."""
    config = fit_config(
        *options,
        f"--data.root={folder / 'phantoms'}",
        "--data.spec=null",
        "--data.val_fraction=0",
        "--data.test_fraction=0",
        f"--data.patches_per_image={steps}",  # and as many images as a batch holds
        f"--trainer.max_epochs={epochs}",
        "--trainer.accelerator=cpu",
    )
    images = config.data.batch_size
    write_phantoms(Path(config.data.root), count=images, size_hw=PHANTOM_SIZE_HW, seed=0)
    L.seed_everything(config.seed, workers=True, verbose=False)
    opened = SegmentationData(config.data, config.augment, progress=False)
    seen = fingerprint(opened.dataset, opened.split.train)
    description = describe(config, opened, seen)
    return Bench(config, opened.dataset, description, description.build_graph(), folder)


def fit_config(*arguments: str) -> FitConfig:
    """Return the settings that `fit` would have with these arguments."""
    parser = build_fit_parser()
    built = parser.instantiate(parser.parse_args(list(arguments)))
    groups = {name: built[name] for name in GROUPS}
    return FitConfig(**groups, trainer=vars(built.trainer), seed=built.seed)


# What the shipped models were trained with: long steps.
NUCLEI = ("--config=training/configs/nuclei.yaml",)
# A narrow net on small patches: short steps, beside which overhead shows most.
SMALL = (
    *NUCLEI,
    "--net.widths=[12,24,48,96]",
    "--data.patch=[128,128]",
    "--data.batch_size=8",
    "--trainer.precision=32-true",
)
# Shows only that the bench works.
TINY = (
    *SMALL,
    "--net.widths=[4,8]",
    "--data.patch=[32,32]",
    "--data.batch_size=2",
    "--data.workers=0",
)
SETTINGS: dict[str, tuple[str, ...]] = {"nuclei": NUCLEI, "small": SMALL, "tiny": TINY}


def _row(
    name: str,
    turns: Sequence[Turns],
    rate: Callable[[Turn], float],
    against: str,
    target: float | None,
) -> Row:
    ours, theirs = [rate(t["fit"]) for t in turns], [rate(t[against]) for t in turns]
    ratios = tuple(a / b for a, b in zip(ours, theirs, strict=True))
    return Row(
        name=name,
        ours=statistics.median(ours),
        reference=statistics.median(theirs),
        unit="steps/s",
        ratios=ratios,
        ratio=statistics.median(ratios),
        target=target,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it."""
    parser = bench_parser("fit_overhead", doc=__doc__, examples=EXAMPLES)
    add_training_options(parser, settings=SETTINGS, setting="nuclei", steps=12)
    asked = parser.parse_args(arguments)
    return finish(measure(asked), asked.out)


if __name__ == "__main__":
    sys.exit(main())
