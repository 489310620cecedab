import hashlib

import numpy as np
import pytest
from scipy import ndimage

from contract.errors import DataError
from training.data.folder import load_image, load_mask, open_folder
from training.data.phantoms import draw_phantom, write_phantoms
from training.data.phantoms_command import main


def digest(folder) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("bits", [8, 16])
def test_the_same_arguments_give_the_same_bytes(tmp_path, bits):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_phantoms(tmp_path / name, count=2, size_hw=(40, 50), seed=seed, bits=bits)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert digest(tmp_path / "a") != digest(tmp_path / "c")


def test_more_pictures_leave_the_first_as_they_are(tmp_path):
    write_phantoms(tmp_path, count=2, size_hw=(40, 50), seed=1)
    before = digest(tmp_path)
    write_phantoms(tmp_path, count=3, size_hw=(40, 50), seed=1)
    after = digest(tmp_path)
    assert all(after[name] == before[name] for name in before if name != "dataset.yaml")
    assert len(after) == len(before) + 2


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_a_written_set_opens(tmp_path, classes):
    write_phantoms(tmp_path, count=3, size_hw=(80, 70), seed=0, classes=classes)
    dataset = open_folder(tmp_path, progress=False)
    names = ("background", "cell", "nucleus", "wall")[:classes]
    assert tuple(c.name for c in dataset.classes) == names
    for case in dataset.cases:
        assert load_image(case, 1).dtype == np.uint8
        assert set(np.unique(load_mask(case, dataset.spec))) == set(range(classes))


def test_16_bits_use_their_range(tmp_path):
    write_phantoms(tmp_path, count=1, size_hw=(64, 64), seed=0, bits=16)
    (case,) = open_folder(tmp_path, progress=False).cases
    image = load_image(case, 1)
    assert image.dtype == np.uint16
    assert len(np.unique(image)) > 256


def test_cells_are_brighter_than_what_is_around_them():
    phantom = draw_phantom(np.random.default_rng(0), (128, 128), classes=4)
    means = [phantom.image_hw[phantom.labels_hw == index].mean() for index in range(4)]
    assert means[0] < min(means[1:])
    assert means[2] > means[1]  # the nucleus
    share = (phantom.labels_hw > 0).mean()
    assert 0.15 < share < 0.75


def test_neighbours_stay_apart_by_a_pixel():
    phantom = draw_phantom(np.random.default_rng(0), (160, 160), classes=2)
    _, count = ndimage.label(phantom.labels_hw)
    assert count >= 10
    gaps = ndimage.binary_closing(phantom.labels_hw, np.ones((3, 3))) & (phantom.labels_hw == 0)
    assert gaps.sum() > 20  # thin gaps between touching cells: the fine detail


def test_other_images_are_not_mixed_with_phantoms(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"mine\.png"):
        write_phantoms(tmp_path, count=1, size_hw=(20, 20), seed=0)


def test_tiny_pictures_are_possible(tmp_path):
    write_phantoms(tmp_path, count=1, size_hw=(1, 1), seed=0)
    with pytest.raises(ValueError, match="count and size"):
        write_phantoms(tmp_path, count=0, size_hw=(9, 9), seed=0)


def test_command(tmp_path, capsys):
    out = tmp_path / "made"
    arguments = ["--out", str(out), "--count", "2", "--size", "40", "50", "--classes", "3"]
    assert main(arguments) == 0
    assert f"fit --data.root {out}" in capsys.readouterr().out
    assert len(open_folder(out, progress=False).cases) == 2
    with pytest.raises(SystemExit) as stopped:
        main(["--count", "0"])
    assert stopped.value.code == 2
