"""Masks that ``fit`` refuses: what they are called, what is proposed, and that it works."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from training.data.folder import load_mask, open_folder
from training.doctor.coding import Coding, coding_of, to_class_indices
from training.doctor.examination import examine
from training.doctor.proposal import propose, write_proposal


def every_mask(root: Path) -> list[Path]:
    return sorted((root / "masks").iterdir())


def mended(root: Path, to: Path):
    """Write the proposal to ``to`` and open the data set with it, as ``fit`` does."""
    examined = examine(root, progress=False)
    proposal = propose(examined)
    assert proposal is not None
    write_proposal(examined, proposal, to, shown=lambda cases, _: cases)
    return open_folder(root, to, progress=False)


def truths(root: Path) -> dict[str, np.ndarray]:
    return {p.stem: cv2.imread(str(p), cv2.IMREAD_UNCHANGED) for p in every_mask(root)}


def kinds(root: Path) -> set[tuple[str, str]]:
    return {(f.severity, f.kind) for f in examine(root, progress=False).findings}


def assert_dice(dataset, truth: dict[str, np.ndarray], least: float) -> None:
    """Every class of all masks together has at least this Dice."""
    loaded = np.concatenate([load_mask(c, dataset.spec).ravel() for c in dataset.cases])
    wanted = np.concatenate([truth[c.stem].ravel() for c in dataset.cases])
    for index in range(int(wanted.max()) + 1):
        mine, right = loaded == index, wanted == index
        assert 2 * (mine & right).sum() / (mine.sum() + right.sum()) >= least


def test_0_and_255(broken, tmp_path, save):
    truth = truths(broken)
    for path in every_mask(broken):
        save(path, truth[path.stem] * 255)
    assert kinds(broken) == {("fault", "mask-0-255")}
    dataset = mended(broken, tmp_path / "new.yaml")
    assert yaml.safe_load((tmp_path / "new.yaml").read_text())["mask_map"] == {255: 1}
    assert [c.name for c in dataset.classes] == ["background", "foreground"]
    assert not (tmp_path / "masks_indexed").exists()
    assert_dice(dataset, truth, 1.0)


def test_three_values(three_classes, tmp_path, save):
    truth = truths(three_classes)
    for path in every_mask(three_classes):
        save(path, np.array([0, 128, 255], np.uint8)[truth[path.stem]])
    assert kinds(three_classes) == {("fault", "mask-values")}
    assert_dice(mended(three_classes, tmp_path / "new.yaml"), truth, 1.0)


def test_what_the_yaml_says_is_kept(three_classes, tmp_path, save):
    truth = truths(three_classes)
    for path in every_mask(three_classes):
        save(path, np.array([0, 128, 255], np.uint8)[truth[path.stem]])
    text = (
        "classes: [{name: outside}, {name: nucleus, colour: [1, 2, 3]}, {name: cell}]\n"
        "mask_map: {255: 1}\nlicence: CC0-1.0\n"
    )
    (three_classes / "dataset.yaml").write_text(text)
    dataset = mended(three_classes, tmp_path / "new.yaml")
    assert dataset.spec.mask_map == {255: 1, 128: 2}
    assert [c.name for c in dataset.classes] == ["outside", "nucleus", "cell"]
    assert dataset.spec.licence == "CC0-1.0"


def test_colours(three_classes, tmp_path, save):
    truth = truths(three_classes)
    palette_bgr = np.array([[0, 0, 0], [0, 200, 0], [30, 40, 250]], np.uint8)
    for path in every_mask(three_classes):
        save(path, palette_bgr[truth[path.stem]])
    assert kinds(three_classes) == {("fault", "colour-mask")}
    dataset = mended(three_classes, tmp_path / "new" / "dataset.yaml")
    # Ascending as (R, G, B), and in the masks' own colours.
    assert [c.colour for c in dataset.classes] == [(0, 0, 0), (0, 200, 0), (250, 40, 30)]
    assert_dice(dataset, truth, 1.0)


def test_grey_stored_as_colour_with_alpha(broken, tmp_path, save):
    truth = truths(broken)
    for path in every_mask(broken):
        grey = truth[path.stem] * 255
        save(path, np.dstack([grey, grey, grey, np.full_like(grey, 255)]))
    assert kinds(broken) == {("fault", "colour-mask")}
    assert_dice(mended(broken, tmp_path / "new.yaml"), truth, 1.0)


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0])
def test_blended_edges(broken, tmp_path, save, sigma):
    truth = truths(broken)
    for path in every_mask(broken):
        save(path, cv2.GaussianBlur(truth[path.stem] * 255, (0, 0), sigma))
    assert kinds(broken) == {("fault", "blended-mask")}
    examined = examine(broken, progress=False)
    assert examined.coding.levels == ((0,), (255,))
    # Blurring itself moves an outline where it is curved or touches another.
    assert_dice(mended(broken, tmp_path / "new.yaml"), truth, 0.98 if sigma <= 1 else 0.95)


def test_edges_of_a_resized_mask_are_no_middle_class(broken, tmp_path, save):
    """Doubling a mask of 0 and 255 makes rims of 64, 128 and 191: no classes."""
    truth = truths(broken)
    for path in every_mask(broken):
        half = cv2.resize(truth[path.stem], (48, 36), interpolation=cv2.INTER_NEAREST)
        save(path, cv2.resize(half * 255, (96, 72), interpolation=cv2.INTER_LINEAR))
        truth[path.stem] = cv2.resize(half, (96, 72), interpolation=cv2.INTER_NEAREST)
    assert kinds(broken) == {("fault", "blended-mask")}
    assert examine(broken, progress=False).coding.levels == ((0,), (255,))
    assert_dice(mended(broken, tmp_path / "new.yaml"), truth, 0.97)


@pytest.mark.parametrize("quality", [95, 75])
def test_jpeg(broken, tmp_path, save, quality):
    truth = truths(broken)
    for path in every_mask(broken):
        save(
            path.with_suffix(".jpg"),
            truth[path.stem] * 255,
            cv2.IMWRITE_JPEG_QUALITY,
            quality,
        )
        path.unlink()
    assert kinds(broken) == {("fault", "jpeg-mask")}
    assert_dice(mended(broken, tmp_path / "new.yaml"), truth, 0.98)


def test_jpeg_of_colours(three_classes, tmp_path, save):
    truth = truths(three_classes)
    palette_bgr = np.array([[0, 0, 0], [0, 200, 0], [30, 40, 250]], np.uint8)
    for path in every_mask(three_classes):
        save(path.with_suffix(".jpg"), palette_bgr[truth[path.stem]])
        path.unlink()
    dataset = mended(three_classes, tmp_path / "new.yaml")
    assert len(dataset.classes) == 3
    assert_dice(dataset, truth, 0.9)


def test_what_was_jpeg_once(broken, tmp_path, save):
    """JPEG saved again as PNG: the decoder is happy, the values are not."""
    truth = truths(broken)
    for path in every_mask(broken):
        _, encoded = cv2.imencode(".jpg", truth[path.stem] * 255, [cv2.IMWRITE_JPEG_QUALITY, 80])
        save(path, cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED))
    assert kinds(broken) == {("fault", "blended-mask")}
    assert len(examine(broken, progress=False).coding.levels) == 2
    assert_dice(mended(broken, tmp_path / "new.yaml"), truth, 0.98)


def test_a_middle_class_with_blended_edges(three_classes, tmp_path, save):
    """An edge from 0 to 255 passes 128, which is a class here: it must not become a rim of it."""
    truth = truths(three_classes)
    for path in every_mask(three_classes):
        labels = truth[path.stem]
        labels[:20, :30], labels[4:16, 4:26] = 0, 2  # class 2 right beside the background
        save(path, cv2.GaussianBlur(np.array([0, 128, 255], np.uint8)[labels], (0, 0), 0.8))
    dataset = mended(three_classes, tmp_path / "new.yaml")
    for case in dataset.cases:
        block = load_mask(case, dataset.spec)[2:18, 2:28]
        assert set(np.unique(block)) == {0, 2}
    assert_dice(dataset, truth, 0.93)


def test_a_number_for_each_object(broken, tmp_path, save):
    truth = truths(broken)
    number = 0
    for path in every_mask(broken):
        count, objects = cv2.connectedComponents(truth[path.stem])
        save(path, np.where(objects > 0, objects + number, 0).astype(np.uint16))
        number += count
    assert number > 40
    assert kinds(broken) == {("fault", "instance-mask")}
    assert_dice(mended(broken, tmp_path / "new.yaml"), truth, 1.0)


def test_fractions(broken, tmp_path):
    import tifffile

    truth = truths(broken)
    for path in every_mask(broken):
        tifffile.imwrite(path.with_suffix(".tif"), truth[path.stem].astype(np.float32))
        path.unlink()
    assert kinds(broken) == {("fault", "mask-type")}
    assert_dice(mended(broken, tmp_path / "new.yaml"), truth, 1.0)


def test_one_bad_mask_among_good_ones(broken, tmp_path, save):
    truth = truths(broken)
    path = every_mask(broken)[3]
    save(path, cv2.GaussianBlur(truth[path.stem] * 255, (0, 0), 0.8))
    examined = examine(broken, progress=False)
    assert {f.where for f in examined.findings} == {path}
    dataset = mended(broken, tmp_path / "new.yaml")
    for case in dataset.cases:
        if case.stem != path.stem:
            np.testing.assert_array_equal(load_mask(case, dataset.spec), truth[case.stem])
    assert_dice(dataset, truth, 0.99)


def test_pictures_in_the_masks_folder_get_no_meaning(broken, save):
    for path in every_mask(broken):
        save(path, cv2.imread(str(broken / "images" / path.name), cv2.IMREAD_UNCHANGED))
    assert kinds(broken) == {("fault", "not-a-mask")}
    assert propose(examine(broken, progress=False)) is None


def test_overlapping_classes_of_255(tmp_path, save):
    image = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)
    save(tmp_path / "images" / "a.png", image)
    for name, row in (("lung", 10), ("heart", 20)):
        mask = np.zeros((40, 50), np.uint8)
        mask[row : row + 15, 5:30] = 255
        save(tmp_path / "masks" / "a" / f"{name}.png", cv2.GaussianBlur(mask, (0, 0), 0.7))
    (tmp_path / "dataset.yaml").write_text("task: multilabel")
    dataset = mended(tmp_path, tmp_path / "new.yaml")
    assert [c.name for c in dataset.classes] == ["heart", "lung"]
    loaded = load_mask(dataset.cases[0], dataset.spec)
    assert loaded[1, 11:24, 6:29].all()
    assert loaded[0, 21:34, 6:29].all()
    assert loaded.sum() <= 2 * 17 * 27


def test_thin_lines_are_a_class_of_their_own(tmp_path, save):
    """Values that fill no area count as levels where they are not between their neighbours."""
    mask = np.zeros((40, 60), np.uint8)
    mask[5:20, 5:30] = 255
    mask[30, 5:55] = 100
    save(tmp_path / "a.png", mask)
    coding = coding_of([tmp_path / "a.png"])
    assert coding.kind == "values"
    assert coding.levels == ((0,), (100,), (255,))


@given(st.lists(st.integers(0, 255), min_size=2, max_size=6, unique=True), st.integers(0, 99))
def test_levels_are_mapped_to_themselves(values, seed):
    """A mask of nothing but levels comes back as their indices, whatever the levels are."""
    coding = Coding("values", tuple((v,) for v in values), (1 / len(values),) * len(values))
    indices = np.random.default_rng(seed).integers(0, len(values), (7, 9))
    stored = np.array(values, np.uint16)[indices][..., None]
    np.testing.assert_array_equal(to_class_indices(stored, coding), indices)
