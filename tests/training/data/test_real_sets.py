"""The 2-D sets of real images, and their masks_original as the broken cases that they are."""

import shutil
from collections import Counter

import numpy as np
import pytest

from contract.errors import DataError
from training.data.config import DataConfig
from training.data.datamodule import SegmentationData
from training.data.fingerprint import fingerprint
from training.data.folder import open_folder
from training.data.split import make_split

pytestmark = pytest.mark.shared

XRAY = """
classes: [{name: background}, {name: right lung}, {name: left lung}, {name: mediastinum}]
table: items.csv
group_column: patientid
"""


@pytest.mark.slow
def test_nuclei(shared_data):
    dataset = open_folder(shared_data / "nuclei_dsb2018", progress=False)
    assert (len(dataset.cases), dataset.channels, len(dataset.classes)) == (332, 3, 2)
    split = make_split(dataset, DataConfig())
    assert [len(part) for part in (split.train, split.val, split.test)] == [232, 50, 50]
    seen = fingerprint(dataset, split.test)
    assert seen.height_min_median_max[0] == 256
    assert len(seen.image_hashes) == 50


def test_membranes(shared_data):
    dataset = open_folder(shared_data / "em_membrane_isbi2012", progress=False)
    config = DataConfig(split="block", val_fraction=1 / 6, test_fraction=1 / 6)
    split = make_split(dataset, config)
    assert split.val == ("20", "21", "22", "23", "24")
    assert split.test == ("25", "26", "27", "28", "29")


def test_blood_cells(shared_data):
    root = shared_data / "wbc_a_tecom"
    data = SegmentationData(DataConfig(root=str(root), workers=0, patch=(112, 112)), progress=False)
    assert (len(data.dataset.cases), data.channels, len(data.classes)) == (299, 3, 3)
    assert data.class_weights().mean() == pytest.approx(1)
    loader = data.train_dataloader()
    batch = next(iter(loader))
    assert batch["image"].shape == (8, 3, 112, 112)
    mean, std = batch["statistics"].unbind(-1)
    seen = (batch["image"] - mean[..., None, None]) / std[..., None, None]
    assert seen.abs().max() < 20


def test_chest_xrays_by_patient(shared_data, tmp_path):
    spec = tmp_path / "xray.yaml"
    spec.write_text(XRAY)
    root = shared_data / "xray_chest_covid"
    config = DataConfig(root=str(root), spec=str(spec), working_size=(96, 96), workers=0)
    data = SegmentationData(config, progress=False)
    assert data.split.kind == "group"
    group_of = {case.stem: case.group for case in data.dataset.cases}
    assert Counter(group_of.values()).most_common(1)[0][1] > 1  # patients do repeat
    parts = [{group_of[s] for s in part} for part in (data.split.train, data.split.val)]
    assert not parts[0] & parts[1]
    # The right lung stands on the viewer's left, in every altered sample too.
    columns = np.broadcast_to(np.arange(96), (96, 96))
    samples = data.train_samples()
    for index in range(len(samples)):
        mask = samples[index]["mask"].numpy()
        if (mask == 1).any() and (mask == 2).any():
            assert columns[mask == 1].mean() < columns[mask == 2].mean()


@pytest.mark.parametrize(
    ("name", "said"),
    [("em_membrane_isbi2012", "mask_map: {255: 1}"), ("wbc_a_tecom", "without a class: 128, 255")],
)
def test_original_masks_are_refused(shared_data, tmp_path, name, said):
    spec = tmp_path / "original.yaml"
    spec.write_text("masks: masks_original\n")
    with pytest.raises(DataError, match="fault") as error:
        open_folder(shared_data / name, spec, progress=False)
    assert said in str(error.value)
    assert "masks_original/" in str(error.value)
    assert "more" in str(error.value)  # all of them, counted


def test_mapped_original_masks_equal_the_converted_ones(shared_data, tmp_path):
    spec = tmp_path / "original.yaml"
    spec.write_text(
        "masks: masks_original\nmask_map: {255: 0, 0: 1}\n"
        "classes: [{name: inside}, {name: membrane}]\n"
    )
    root = shared_data / "em_membrane_isbi2012"
    mapped = open_folder(root, spec, progress=False)
    converted = open_folder(root, progress=False)
    assert mapped.facts == converted.facts


def test_a_damaged_copy_of_a_real_set(shared_data, tmp_path):
    source = shared_data / "em_membrane_isbi2012"
    for folder in ("images", "masks"):
        shutil.copytree(source / folder, tmp_path / folder)
    whole = (tmp_path / "images" / "07.png").read_bytes()
    (tmp_path / "images" / "07.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "masks" / "11.png").unlink()
    with pytest.raises(DataError, match=r"2 fault\(s\)") as error:
        open_folder(tmp_path, progress=False)
    assert "images/07.png: unreadable image" in str(error.value)
    assert "images/11.png: an image without a mask" in str(error.value)
