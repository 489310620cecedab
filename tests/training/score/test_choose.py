"""Metrics chosen by name or by what the true masks look like."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from contract.errors import RequestInvalid
from contract.measures import METRICS
from imaging.label_png import read_mask
from training.data.folder import FolderDataset, open_folder
from training.score.choose import ALWAYS, by_shape, choose_metrics

Make = Callable[..., FolderDataset]


@pytest.fixture
def folder_of(tmp_path: Path) -> Make:
    """Return ``folder_of(*masks, yaml="")``: a data set of these masks with images of noise."""

    def make(*masks: NDArray[np.uint8], yaml: str = "") -> FolderDataset:
        random = np.random.default_rng(0)
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir()
        for number, mask in enumerate(masks):
            image = random.integers(0, 255, mask.shape).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), image)
            cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), mask)
        (tmp_path / "dataset.yaml").write_text(yaml)
        return open_folder(tmp_path)

    return make


def discs(count: int) -> NDArray[np.uint8]:
    mask = np.zeros((80, 160), np.uint8)
    for number in range(count):
        cv2.circle(mask, (20 + 30 * (number % 5), 20 + 40 * (number // 5)), 9, 1, -1)
    return mask


def web() -> NDArray[np.uint8]:
    mask = np.zeros((160, 200), np.uint8)
    mask[10:150:20] = mask[:, 10:190:30] = 1
    mask[11:150:20] = mask[:, 11:190:30] = 1
    return mask


def chosen(dataset: FolderDataset, wanted: str = "auto") -> tuple[str, ...]:
    return choose_metrics(wanted, dataset, dataset.cases, [1])[1]


def test_one_organ_is_neither_counted_nor_traced(folder_of: Make) -> None:
    assert chosen(folder_of(discs(1), discs(1))) == ALWAYS


def test_several_objects_are_counted(folder_of: Make) -> None:
    assert chosen(folder_of(discs(8), discs(6), discs(0))) == (*ALWAYS, "object_f1")


def test_thin_structures_are_traced(folder_of: Make) -> None:
    assert chosen(folder_of(web(), web())) == (*ALWAYS, "cldice")


def test_each_class_by_itself(folder_of: Make) -> None:
    both = web()
    both[:80, :160][discs(8) == 1] = 2
    yaml = "classes: [{name: background}, {name: web}, {name: disc}]"
    dataset = folder_of(both, yaml=yaml)
    choice = choose_metrics("auto", dataset, dataset.cases, [1, 2])
    assert choice == {1: (*ALWAYS, "cldice"), 2: (*ALWAYS, "object_f1")}


def test_where_no_mask_holds_the_class_the_usual_ones_stay(folder_of: Make) -> None:
    yaml = "classes: [{name: background}, {name: disc}, {name: nowhere}]"
    dataset = folder_of(discs(8), yaml=yaml)
    assert choose_metrics("auto", dataset, dataset.cases, [2]) == {2: ALWAYS}


def test_by_name_in_the_order_of_all(folder_of: Make) -> None:
    dataset = folder_of(discs(1))
    assert chosen(dataset, "object_f1, dice") == ("dice", "object_f1")
    assert chosen(dataset, "all") == tuple(METRICS)


@pytest.mark.parametrize(
    ("wanted", "words"), [("dice,hd59", "hd59 is no metric"), (",", "nothing is no metric")]
)
def test_no_such_metric(folder_of: Make, wanted: str, words: str) -> None:
    with pytest.raises(RequestInvalid, match=words):
        chosen(folder_of(discs(1)), wanted)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "metric"), [("nuclei_dsb2018", "object_f1"), ("em_membrane_isbi2012", "cldice")]
)
def test_real_nuclei_and_membranes(shared_data: Path, name: str, metric: str) -> None:
    files = sorted((shared_data / name / "masks").iterdir())
    masks = [np.asarray(read_mask(file)).squeeze() == 1 for file in files[:: len(files) // 6]]
    assert by_shape(masks) == (*ALWAYS, metric)
