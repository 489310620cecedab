"""Which metrics each class gets, by what its true masks look like or by name."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from contract.errors import RequestInvalid
from contract.measures import METRICS
from contract.skeleton import skeleton
from training.data.folder import Case, FolderDataset, load_mask

ALWAYS = ("dice", "iou", "precision", "recall", "hd95", "assd", "nsd")
# Kept in a model's spec; those of `ALWAYS` that say nearly what another one says are left out.
NOT_IN_SPEC = ("assd", "nsd")
# Masks looked at; more would change a median little.
LOOKED_AT = 24
# Length of the centre line over mean width, per object. Membranes of 6 px have 150 to 1300, rings
# of cytoplasm 8 to 28, lungs and nuclei below 7.
THIN_FROM = 40.0
# Below, counting objects says no more than whether the one organ was found.
OBJECTS_FROM = 3

Choice = Mapping[int, tuple[str, ...]]
"""Class index to metric names, in the order of ``METRICS``."""


def choose_metrics(
    wanted: str, dataset: FolderDataset, cases: Sequence[Case], classes: Sequence[int]
) -> Choice:
    """Return the metrics of each class.

    Args:
        wanted: ``auto`` (``ALWAYS``, clDice for thin structures, F1 over objects for several
            that are not thin), ``all``, or names with commas between them.
        dataset: whose true masks decide for ``auto``.
        cases: that will be scored.
        classes: indices of the classes that are reported.

    Raises:
        RequestInvalid: a name that is no metric.
    """
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if names == ["auto"]:
        masks = _truths(dataset, cases)
        return {
            index: by_shape([m for m in (_plane(t, dataset, index) for t in masks) if m.any()])
            for index in classes
        }
    chosen = set(METRICS) if names == ["all"] else set(names)
    unknown = sorted(chosen - set(METRICS))
    if unknown or not chosen:
        raise RequestInvalid(
            f"--metrics {wanted}: {', '.join(unknown) or 'nothing'} is no metric. Give auto, all, "
            f"or some of {', '.join(METRICS)} with commas between them"
        )
    return dict.fromkeys(classes, tuple(name for name in METRICS if name in chosen))


def choose_for_spec(dataset: FolderDataset, classes: Sequence[int]) -> Choice:
    """Return the metrics that a model's spec and card give of each class, whatever the part."""
    chosen = choose_metrics("auto", dataset, dataset.cases, classes)
    return {
        index: tuple(name for name in names if name not in NOT_IN_SPEC)
        for index, names in chosen.items()
    }


def _truths(dataset: FolderDataset, cases: Sequence[Case]) -> list[NDArray[np.uint8]]:
    places = np.unique(np.linspace(0, len(cases) - 1, min(len(cases), LOOKED_AT)).astype(int))
    return [load_mask(cases[place], dataset.spec) for place in places]


def _plane(truth: NDArray[np.uint8], dataset: FolderDataset, index: int) -> NDArray[np.bool_]:
    plane = truth[index] == 1 if dataset.spec.task == "multilabel" else truth == index
    return np.asarray(plane, dtype=np.bool_)


def by_shape(masks: Sequence[NDArray[np.bool_]]) -> tuple[str, ...]:
    """Return the metrics for a class whose true masks ``[H, W]``, none of them empty, are these."""
    if not masks:
        return ALWAYS
    counts = [ndimage.label(mask, np.ones((3, 3)))[1] for mask in masks]
    lengths = [np.count_nonzero(skeleton(mask)) for mask in masks]
    slender = [
        length**2 / np.count_nonzero(mask) / count
        for mask, length, count in zip(masks, lengths, counts, strict=True)
    ]
    if np.median(slender) >= THIN_FROM:
        return (*ALWAYS, "cldice")
    return (*ALWAYS, "object_f1") if np.median(counts) >= OBJECTS_FROM else ALWAYS
