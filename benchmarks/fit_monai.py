"""Training by `fit` beside the same training written with MONAI: who does more steps a second.

Both sides have the same net, start weights, loss, optimiser, schedule, images, patch and batch
sizes, precision and number of workers. MONAI's side is the loop of its tutorials: CacheDataset,
dictionary transforms, its DataLoader, a plain PyTorch loop. Its transforms are those that come
nearest to ours, with the same probabilities; what it has no counterpart for is off on our side.
"""

import argparse
import contextlib
import copy
import gc
import io
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import RandomSampler

from benchmarks.command import add_training_options, bench_parser, finish
from benchmarks.fit_overhead import (
    SETTINGS,
    Bench,
    Turn,
    Turns,
    compare,
    fit_turn,
    prepare,
)
from benchmarks.record import Record, make_record
from benchmarks.turns import take_rounds
from training.data.augment import ROTATED_SHARE
from training.fit.optimiser import build_optimiser, build_schedule

EXAMPLES = """examples:
  python -m benchmarks.fit_monai
  python -m benchmarks.fit_monai --setting small --steps 40 --repeats 7
  python -m benchmarks.fit_monai --out benchmarks/results/fit_monai.md
"""
TARGET = 1.0
PACKAGES = ("torch", "lightning", "monai", "numpy", "albumentations")
# MONAI has nothing like them, or only for other kinds of images.
OURS_ALONE = (
    "--augment.kind=microscopy",
    "--augment.invert_probability=0",
    "--augment.colour_probability=0",
    "--augment.grey_probability=0",
)


def monai_loader(bench: Bench) -> Any:
    """Return MONAI's loader over the bench's images, with transforms like ours."""
    from monai.data import CacheDataset, DataLoader, set_track_meta
    from monai.transforms import (
        Compose,
        LoadImaged,
        NormalizeIntensityd,
        RandAdjustContrastd,
        RandAffined,
        RandCropByPosNegLabeld,
        RandFlipd,
        RandGaussianNoised,
        RandGaussianSmoothd,
        RandRotate90d,
        RandScaleIntensityd,
        RandShiftIntensityd,
    )

    set_track_meta(False)  # their own advice for speed
    data = bench.config.data
    opened = bench.data()
    patch = opened.patch
    if patch is None:
        raise ValueError("the bench compares patches; the setting has a working size")
    recipe = bench.config.augment.recipe(class_names=(), channels=bench.dataset.channels)
    both, image = ("image", "mask"), ("image",)
    low, high = recipe.scale
    foreground = data.foreground_fraction
    transforms = [
        LoadImaged(keys=both, reader="PILReader", ensure_channel_first=True),
        # Mean and std of the whole image, once, as ours: what follows is in deviations.
        NormalizeIntensityd(keys=image, channel_wise=True),
        RandCropByPosNegLabeld(
            keys=both, label_key="mask", spatial_size=patch, pos=foreground, neg=1 - foreground
        ),
        # One resampling for scale and rotation together, as ours.
        RandAffined(
            keys=both,
            prob=1.0,
            rotate_range=math.radians(recipe.rotation_deg) * ROTATED_SHARE,
            scale_range=(1 / high - 1, 1 / low - 1),
            mode=("bilinear", "nearest"),
            padding_mode="reflection",
            cache_grid=True,
            spatial_size=patch,
        ),
        RandFlipd(keys=both, prob=0.5, spatial_axis=0),
        RandFlipd(keys=both, prob=0.5, spatial_axis=1),
        RandRotate90d(keys=both, prob=0.75, max_k=3),
        RandAdjustContrastd(
            keys=image, prob=0.5, gamma=(math.exp(-recipe.gamma), math.exp(recipe.gamma))
        ),
        RandGaussianSmoothd(
            keys=image, prob=recipe.blur_probability, sigma_x=(0.5, 1.5), sigma_y=(0.5, 1.5)
        ),
        RandGaussianNoised(keys=image, prob=recipe.noise_probability, std=recipe.noise),
        RandScaleIntensityd(keys=image, prob=1.0, factors=recipe.contrast),
        RandShiftIntensityd(keys=image, prob=1.0, offsets=recipe.brightness),
    ]
    cases = opened.dataset.select(opened.split.train)
    files = [{"image": str(case.image), "mask": str(case.mask_files[0])} for case in cases]
    dataset = CacheDataset(files, Compose(transforms), num_workers=1, progress=False)
    return DataLoader(
        dataset,
        batch_size=data.batch_size,
        sampler=RandomSampler(
            dataset, replacement=True, num_samples=len(files) * data.patches_per_image
        ),
        num_workers=data.workers,
        persistent_workers=data.workers > 0,
        drop_last=True,
    )


def monai_turn(bench: Bench) -> Turn:
    """Train as MONAI's tutorials do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries that MONAI imports
        loader = monai_loader(bench)
    graph = copy.deepcopy(bench.graph).train()
    loss = bench.loss()
    optimiser = build_optimiser(graph, bench.config.optimiser)
    schedule = build_schedule(optimiser, bench.config.optimiser, steps=bench.epochs * len(loader))
    bf16 = bench.config.trainer.get("precision") == "bf16-mixed"
    ended_s: list[list[float]] = []
    for _ in range(bench.epochs):
        ended_s.append([])
        for batch in loader:
            optimiser.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                # Their images come normalised, so only the net itself is called.
                value = loss(graph.net(batch["image"]), batch["mask"][:, 0].to(torch.uint8))
            value.backward()
            optimiser.step()
            schedule.step()
            ended_s[-1].append(time.perf_counter())
    return Turn(ended_s, graph.state_dict())


SIDES: dict[str, Callable[[Bench], Turn]] = {"fit": fit_turn, "monai": monai_turn}


def take_turns(bench: Bench) -> Turns:
    """Run fit, then MONAI, and say what each gave."""
    turns: Turns = {}
    for side, run in SIDES.items():
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            turns[side] = run(bench)
        gc.collect()  # ends the loader's workers before the other side's turn
        print(f"  {side:<6}{turns[side].steps_per_s():8.2f} steps/s", flush=True)
    return turns


def measure(asked: argparse.Namespace) -> Record:
    """Make the data, take turns, and return what came out."""
    with tempfile.TemporaryDirectory(prefix="longskip-bench-") as folder:
        bench = prepare(
            (*SETTINGS[asked.setting], *OURS_ALONE),
            Path(folder),
            steps=asked.steps,
            epochs=asked.epochs + 1,
        )
        rounds = take_rounds(
            lambda: take_turns(bench), repeats=asked.repeats, patience=asked.patience
        )
        first_ours = next(iter(bench.data().train_dataloader()))
        first_theirs = next(iter(monai_loader(bench)))
    turns = [r.turn for r in rounds]
    shapes = [tuple(batch["image"].shape) for batch in (first_ours, first_theirs)]
    counts = [[len(e) for e in t[side].ended_s] for t in turns for side in SIDES]
    return make_record(
        f"fit against MONAI, setting {asked.setting}",
        settings=bench.settings(counted_steps=asked.steps * asked.epochs),
        rows=compare(turns, against="monai", target=TARGET),
        checks={
            "both sides' batches have the same shape": shapes[0] == shapes[1],
            "both sides took the same steps": all(count == counts[0] for count in counts),
        },
        others=max(r.others for r in rounds),
        packages=PACKAGES,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it."""
    parser = bench_parser("fit_monai", doc=__doc__, examples=EXAMPLES)
    add_training_options(parser, settings=SETTINGS, setting="nuclei", steps=12)
    asked = parser.parse_args(arguments)
    return finish(measure(asked), asked.out)


if __name__ == "__main__":
    sys.exit(main())
