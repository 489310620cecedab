"""A small data set of its own for each task, and nets to look at with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np
import pytest
import torch

from contract.spec import Normalising
from training.data.folder import FolderDataset, open_folder
from training.fit.checkpoint import Description, net_fields
from training.nets.config import NetConfig
from training.probe.probed import Probed

Task = Literal["multiclass", "multilabel"]
SIZE_HW = (44, 60)
SMALL = NetConfig(widths=(4, 6, 8))


class LookAt(Protocol):
    """Type of the fixture ``look_at``."""

    def __call__(
        self,
        config: NetConfig = SMALL,
        *,
        task: Task = "multiclass",
        name: str = "net",
        channels: int = 1,
    ) -> Probed: ...


def write_set(root: Path, task: Task) -> Path:
    """Write four 16-bit images of two kinds of discs, a strip of each ignored."""
    random = np.random.default_rng(5)
    rows, columns = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    names = ("large", "small")
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(4):
        planes = []
        for radius, base in ((11, 16), (5, 40)):
            y, x = random.integers(14, 30), base + random.integers(-3, 4)
            planes.append((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)
        image = 800 + 900 * planes[0] + 2500 * planes[1] + random.normal(0, 60, SIZE_HW)
        cv2.imwrite(str(root / f"images/i{number}.png"), image.astype(np.uint16))
        masks = [np.where(columns == 50, 255, plane).astype(np.uint8) for plane in planes]
        if task == "multilabel":
            (root / f"masks/i{number}").mkdir()
            for name, mask in zip(names, masks, strict=True):
                cv2.imwrite(str(root / f"masks/i{number}/{name}.png"), mask)
        else:
            flat = np.where(planes[1], 2, planes[0]).astype(np.uint8)
            flat[:, 50] = 255
            cv2.imwrite(str(root / f"masks/i{number}.png"), flat)
    classes = ["large", "small"] if task == "multilabel" else ["background", "large", "small"]
    listed = "".join(f"  - name: {name}\n" for name in classes)
    (root / "dataset.yaml").write_text(f"task: {task}\nignore: 255\nclasses:\n{listed}")
    return root


@pytest.fixture(scope="session")
def small_sets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Task], FolderDataset]:
    """Return the data set of a task: 4 images of 44 x 60 px, 16 bits, 2 classes, some ignored."""
    found: dict[Task, FolderDataset] = {}

    def small_set(task: Task) -> FolderDataset:
        if task not in found:
            root = write_set(tmp_path_factory.mktemp(task), task)
            found[task] = open_folder(root, progress=False)
        return found[task]

    return small_set


@pytest.fixture(scope="session")
def look_at(small_sets: Callable[[Task], FolderDataset]) -> LookAt:
    """Return a net of random weights, seed 0, with the images of its task."""

    def probed(
        config: NetConfig = SMALL,
        *,
        task: Task = "multiclass",
        name: str = "net",
        channels: int = 1,
    ) -> Probed:
        dataset = small_sets(task)
        description = Description(
            net=net_fields(config),
            channels=channels,
            classes=dataset.classes,
            task=task,
            normalising=Normalising(kind="image"),
            working_size=None,
            patch=None,
            training_data=None,
            seed=0,
        )
        torch.manual_seed(0)
        graph = description.build_graph().eval()
        stems = tuple(case.stem for case in dataset.cases)
        return Probed(graph, description, dataset, stems, name=name)

    return probed
