"""HD95 and NSD of one 512 x 512 case: ours against MONAI, and DeepMind's beside them.

    python -m benchmarks.metrics_speed
    python -m benchmarks.metrics_speed --membranes ../shared/data/em_membrane_isbi2012/masks

Blobs are what most sets look like; membranes have the longest outlines there are. Times are CPU
seconds of one thread, so that other work on the machine counts little.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import surface_distance
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from benchmarks.machine import OtherLoad
from benchmarks.record import Row, make_record, show_record, write_record
from contract.measures import METRICS, measure_labels
from contract.surface import outline_distances, surface_dice
from imaging.label_png import read_mask

Mask = NDArray[np.bool_]
SIDE = 512
TOLERANCE = 2.0
SPACINGS = {"equal steps": (1.0, 1.0), "steps 0.5 x 0.8": (0.5, 0.8)}
PACKAGES = ("numpy", "scipy", "opencv-python-headless", "monai", "surface-distance", "torch")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--membranes", type=Path, help="folder of real masks; else made ones")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help=".md or .json")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", (DeprecationWarning, FutureWarning))
    load = OtherLoad()
    membranes = "real EM membranes" if options.membranes else "made membranes"
    pairs = {"blobs": (blobs(), disturbed(blobs()))}
    truth = _real(options.membranes) if options.membranes else web()
    pairs[membranes] = (disturbed(truth), truth)
    rows, agreed = [], []
    for name, (prediction, true) in pairs.items():
        for steps, spacing in SPACINGS.items():
            row, agree = _compare(f"{name}, {steps}", prediction, true, spacing, options.repeats)
            rows.append(row)
            agreed.append(agree)
    record = make_record(
        "HD95 and NSD of one 512 x 512 case against MONAI",
        settings={"repeats": options.repeats, "tolerance": TOLERANCE, "threads": 1},
        rows=rows,
        checks={"same HD95 and NSD to 1e-5": all(agreed)},
        others=load.share(),
        packages=PACKAGES,
    )
    show_record(record)
    if options.out:
        write_record(record, options.out)


def blobs() -> Mask:
    """Return 40 discs of 6 to 24 px."""
    random = np.random.default_rng(0)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(40):
        centre = tuple(int(c) for c in random.integers(0, SIDE, 2))
        cv2.circle(mask, centre, int(random.integers(6, 25)), 1, -1)
    return mask > 0


def web() -> Mask:
    """Return the borders, 4 px wide, of 300 cells."""
    random = np.random.default_rng(1)
    _, nearest = KDTree(random.uniform(0, SIDE, (300, 2))).query(
        np.argwhere(np.ones((SIDE, SIDE), bool))
    )
    cells = nearest.reshape(SIDE, SIDE)
    return np.asarray(ndimage.maximum_filter(cells, 4) != ndimage.minimum_filter(cells, 4))


def disturbed(mask: Mask) -> Mask:
    """Return the mask bent by up to some pixels, with holes and specks: as a net would have it."""
    random = np.random.default_rng(2)
    bend = ndimage.gaussian_filter(random.normal(size=(2, SIDE, SIDE)), (0, 12, 12)) * 60
    where = np.mgrid[:SIDE, :SIDE] + bend
    bent = ndimage.map_coordinates(mask.astype(np.float32), where, order=1) > 0.5
    noise = ndimage.gaussian_filter(random.normal(size=(SIDE, SIDE)), 3)
    return np.asarray(bent ^ (noise > 3.2 * noise.std()))


def _real(folder: Path) -> Mask:
    mask = np.asarray(read_mask(sorted(folder.iterdir())[0])).squeeze() == 1
    if mask.shape != (SIDE, SIDE):
        raise SystemExit(f"{folder}: a mask of {mask.shape}, wanted {SIDE} x {SIDE}")
    return np.asarray(mask)


def _compare(
    name: str, prediction: Mask, true: Mask, spacing: tuple[float, float], repeats: int
) -> tuple[Row, bool]:
    hot = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, true)]
    labels = [mask.astype(np.uint8) for mask in (prediction, true)]

    def ours() -> tuple[float, float]:
        return (
            outline_distances(prediction, true, spacing).hd95,
            surface_dice(prediction, true, spacing, TOLERANCE),
        )

    def monai() -> tuple[float, float]:
        options = {"include_background": True, "spacing": spacing}
        hd95 = compute_hausdorff_distance(*hot, percentile=95, **options)
        nsd = compute_surface_dice(*hot, [TOLERANCE], use_subvoxels=True, **options)
        return float(hd95), float(nsd)

    def deepmind() -> None:
        distances = surface_distance.compute_surface_distances(true, prediction, spacing)
        surface_distance.compute_robust_hausdorff(distances, 95)
        surface_distance.compute_surface_dice_at_tolerance(distances, TOLERANCE)

    def everything() -> None:
        measure_labels(*labels, task="multiclass", n_classes=2, metrics={1: tuple(METRICS)})

    agree = bool(np.allclose(ours(), monai(), rtol=1e-5))
    times = {side.__name__: _seconds(side, repeats) for side in (ours, monai, deepmind, everything)}
    ratios = tuple(m / o for o, m in zip(times["ours"], times["monai"], strict=True))
    our_ms, monai_ms, deepmind_ms, all_ms = (1000 * float(np.median(t)) for t in times.values())
    row = Row(
        name=name,
        ours=1000 / our_ms,
        reference=1000 / monai_ms,
        unit="cases/s",
        ratios=ratios,
        ratio=float(np.median(ratios)),
        target=None,
        facts={
            "our ms": our_ms,
            "MONAI ms": monai_ms,
            "DeepMind ms": deepmind_ms,
            "ms for all our metrics": all_ms,
        },
    )
    return row, agree


def _seconds(side: Callable[[], object], repeats: int) -> list[float]:
    side()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        side()
        times.append(time.process_time() - start)
    return times


if __name__ == "__main__":
    main()
