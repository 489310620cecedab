"""Each thing that can be wrong is made here, and nothing but it is found."""

import shutil

import cv2
import numpy as np
import pytest
import tifffile

from contract.errors import DataError
from training.data.findings import grouped
from training.data.folder import open_folder
from training.data.phantoms import write_phantoms
from training.doctor.examination import examine

A, B = "phantom0000", "phantom0001"


def test_a_clean_set_has_nothing(clean_set, found):
    assert found(clean_set) == []


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("classes", [2, 4])
def test_no_false_alarm_on_other_clean_sets(tmp_path, found, bits, classes):
    write_phantoms(tmp_path, count=12, size_hw=(64, 80), seed=bits, classes=classes, bits=bits)
    assert found(tmp_path) == []


def test_faults_are_the_ones_that_fit_refuses(broken):
    (broken / "masks" / f"{A}.png").unlink()
    truncated = broken / "images" / f"{B}.png"
    truncated.write_bytes(truncated.read_bytes()[:900])
    faults = [f for f in examine(broken, progress=False).findings if f.severity == "fault"]
    assert [f.kind for f in faults] == ["no-mask", "unreadable-image"]
    with pytest.raises(DataError) as refusal:
        open_folder(broken, progress=False)
    for group in grouped(faults):
        for line in group.lines(broken):
            assert line in str(refusal.value)


def test_unmatched_stems(broken, found):
    (broken / "images" / f"{A}.png").unlink()
    (broken / "masks" / f"{B}.png").unlink()
    assert found(broken) == [
        ("fault", "no-mask", f"images/{B}.png"),
        ("fault", "no-image", f"masks/{A}.png"),
    ]


def test_another_size(broken, found, read, save):
    path = broken / "masks" / f"{A}.png"
    save(path, read(path)[:-3])
    assert found(broken) == [("fault", "size-mismatch", f"masks/{A}.png")]


def test_unreadable_files(broken, found):
    (broken / "images" / f"{A}.png").write_text("no pixels")
    mask = broken / "masks" / f"{B}.png"
    mask.write_bytes(mask.read_bytes()[:-30])
    assert found(broken) == [
        ("fault", "unreadable-image", f"images/{A}.png"),
        ("fault", "unreadable-mask", f"masks/{B}.png"),
    ]


def test_a_label_out_of_range(clean_set, broken, found, read, save):
    shutil.copy(clean_set / "dataset.yaml", broken / "dataset.yaml")
    path = broken / "masks" / f"{A}.png"
    mask = read(path)
    mask[:9, :9] = 7
    save(path, mask)
    (finding,) = [f for f in examine(broken, progress=False).findings if f.severity == "fault"]
    assert (finding.kind, finding.where) == ("mask-values", path)
    assert "without a class: 7" in finding.found
    assert "class indices here are 0..1" in finding.remedy


def test_empty_and_full_masks(broken, found, read, save):
    for stem, value in ((A, 0), (B, 1)):
        path = broken / "masks" / f"{stem}.png"
        save(path, np.full_like(read(path), value))
    assert found(broken) == [
        ("note", "empty-mask", f"masks/{A}.png"),
        ("warning", "full-mask", f"masks/{B}.png"),
    ]


def test_a_wholly_ignored_mask(broken, found, read, save):
    (broken / "dataset.yaml").write_text("ignore: 9")
    path = broken / "masks" / f"{A}.png"
    save(path, np.full_like(read(path), 9))
    assert found(broken) == [("warning", "all-ignored", f"masks/{A}.png")]


def test_a_class_that_no_mask_holds(broken):
    names = ["background", "cell", "yeti"]
    (broken / "dataset.yaml").write_text(f"classes: {[{'name': n} for n in names]}")
    (finding,) = examine(broken, progress=False).findings
    assert (finding.severity, finding.kind) == ("warning", "absent-class")
    assert "'yeti'" in finding.found


def test_alpha(broken, found, read, save):
    for path in sorted((broken / "images").iterdir()):
        alpha = np.full((72, 96), 255, np.uint8)
        if path.stem == A:
            alpha[:] = 40
        grey = read(path)
        save(path, np.dstack([grey, grey, grey, alpha]))
    assert found(broken) == [("warning", "see-through", f"images/{A}.png")]


def test_varying_alpha_until_channels_are_named(broken, found, read, save):
    for path in (broken / "images").iterdir():
        grey = read(path)
        save(path, np.dstack([grey, grey, grey, 255 - grey]))
    kinds = found(broken)
    assert len(kinds) == 10
    assert {(severity, kind) for severity, kind, _ in kinds} == {("warning", "varying-alpha")}
    (broken / "dataset.yaml").write_text("channels: 3")
    assert found(broken) == []


def test_another_depth(broken, found, read):
    path = broken / "images" / f"{A}.png"
    tifffile.imwrite(path.with_suffix(".tif"), read(path).astype(np.uint16) * 200)
    path.unlink()
    assert found(broken) == [("warning", "mixed-depth", f"images/{A}.tif")]


def test_16_bits_that_hold_8(tmp_path, found):
    write_phantoms(tmp_path, count=6, size_hw=(64, 64), seed=1, bits=16)
    paths = sorted((tmp_path / "images").iterdir())
    dim = tifffile.imread(paths[2]) // 64
    tifffile.imwrite(paths[2], dim)
    assert found(tmp_path) == [("warning", "8-in-16", f"images/{paths[2].name}")]
    for path in paths:
        tifffile.imwrite(path, np.minimum(tifffile.imread(path) // 40, 255))
    assert found(tmp_path) == [("note", "8-in-16", f"images/{paths[0].name}")]


def test_a_blank_image(broken, found, read, save):
    for stem in (A, B):  # two of them are no copies of each other: there is nothing to copy
        path = broken / "images" / f"{stem}.png"
        save(path, np.full_like(read(path), 17))
    assert found(broken) == [("warning", "blank-image", f"images/{s}.png") for s in (A, B)]


def test_grey_among_colour(broken, found, read, save):
    for path in (broken / "images").iterdir():
        if path.stem != A:
            grey = read(path)
            save(path, np.dstack([grey, grey, 255 - grey]))
    assert found(broken) == [("note", "grey-among-colour", f"images/{A}.png")]


def test_one_finding_for_many_files(broken, read, save):
    for path in (broken / "masks").iterdir():
        save(path, read(path) * 255)
    (group,) = examine(broken, progress=False).groups
    assert len(group.findings) == 10
    text = "\n".join(group.lines(broken))
    assert text.startswith("10 files: mask values without a class: 255\n")
    assert "… and 5 more" in text


def test_no_folder_and_a_wrong_yaml(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        examine(tmp_path / "absent", progress=False)
    (tmp_path / "dataset.yaml").write_text("clases: []")
    with pytest.raises(DataError, match="did you mean 'classes'"):
        examine(tmp_path, progress=False)


def test_an_empty_folder(tmp_path, found):
    assert found(tmp_path) == [
        ("fault", "missing-folder", "images"),
        ("fault", "missing-folder", "masks"),
    ]


def test_overlapping_classes(tmp_path, found, save):
    rng = np.random.default_rng(0)
    for index in range(4):
        image = cv2.GaussianBlur(rng.integers(0, 255, (40, 50), dtype=np.uint8), (0, 0), 2)
        save(tmp_path / "images" / f"{index}.png", image)
        for name, low in (("lung", 120), ("heart", 130)):
            mask = (image > (255 if (index, name) == (0, "heart") else low)).astype(np.uint8)
            save(tmp_path / "masks" / str(index) / f"{name}.png", mask)
    (tmp_path / "dataset.yaml").write_text("task: multilabel")
    assert found(tmp_path) == []  # one empty plane is no empty mask
    for name in ("lung", "heart"):
        save(tmp_path / "masks" / "2" / f"{name}.png", np.zeros((40, 50), np.uint8))
    assert found(tmp_path) == [("note", "empty-mask", "masks/2")]
