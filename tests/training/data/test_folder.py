import re

import numpy as np
import pytest
import tifffile

from contract.errors import DataError
from training.data.folder import load_image, load_mask, open_folder

GREY = np.arange(20, dtype=np.uint8).reshape(4, 5)
RGB = np.stack([GREY, GREY + 50, GREY + 100], axis=2)
OPAQUE = np.concatenate([RGB, np.full((4, 5, 1), 255, np.uint8)], axis=2)
SEE_THROUGH = np.concatenate([RGB, GREY[..., None]], axis=2)
MASK = (GREY > 9).astype(np.uint8)


def refused(root, **options) -> str:
    with pytest.raises(DataError) as error:
        open_folder(root, progress=False, **options)
    return str(error.value)


def test_plain_pair_needs_no_yaml(make_folder):
    dataset = open_folder(make_folder({"a.png": GREY}, {"a.png": MASK}), progress=False)
    (case,) = dataset.cases
    assert (case.stem, case.group, dataset.channels) == ("a", None, 1)
    assert [c.name for c in dataset.classes] == ["background", "foreground"]
    facts = dataset.facts["a"]
    assert (facts.height_px, facts.width_px) == (4, 5)
    assert facts.class_pixels == (10, 10)
    np.testing.assert_array_equal(load_image(case, 1)[..., 0], GREY)
    np.testing.assert_array_equal(load_mask(case, dataset.spec), MASK)


def test_cases_stand_in_natural_order(make_folder):
    names = [f"s{index}.png" for index in range(12)]
    root = make_folder(dict.fromkeys(names, GREY), dict.fromkeys(names, MASK))
    stems = [case.stem for case in open_folder(root, progress=False).cases]
    assert stems == [f"s{index}" for index in range(12)]


@pytest.mark.parametrize(
    ("images", "channels"),
    [
        ([GREY, GREY], 1),
        ([RGB, RGB], 3),
        ([GREY, RGB], 3),
        ([OPAQUE, OPAQUE], 3),
        ([OPAQUE, GREY], 3),
        ([SEE_THROUGH, SEE_THROUGH], 4),
    ],
)
def test_channels_that_all_images_can_be_brought_to(make_folder, images, channels):
    names = [f"{index}.png" for index in range(len(images))]
    root = make_folder(dict(zip(names, images, strict=True)), dict.fromkeys(names, MASK))
    dataset = open_folder(root, progress=False)
    assert dataset.channels == channels
    assert {load_image(case, channels).shape for case in dataset.cases} == {(4, 5, channels)}


def test_channels_that_cannot_be_reconciled(make_folder):
    images = {"a.png": RGB, "b.png": SEE_THROUGH}
    message = refused(make_folder(images, dict.fromkeys(images, MASK)))
    assert "1 with 3, 1 with 4" in message
    assert "set channels in dataset.yaml" in message


def test_channels_of_the_yaml_decide(make_folder):
    images = {"a.png": RGB, "b.png": SEE_THROUGH}
    root = make_folder(images, dict.fromkeys(images, MASK), "channels: 3")
    assert open_folder(root, progress=False).channels == 3


def test_channels_of_the_yaml_that_no_image_can_give(make_folder):
    message = refused(make_folder({"a.png": RGB}, {"a.png": MASK}, "channels: 5"))
    assert "images/a.png" in message
    assert "takes 5" in message


def test_five_channels_and_16_bits_come_as_stored(make_folder):
    root = make_folder({}, {"a.png": MASK})
    stored = np.arange(100, dtype=np.uint16).reshape(4, 5, 5) * 600
    tifffile.imwrite(root / "images" / "a.tif", stored, planarconfig="contig", photometric=1)
    dataset = open_folder(root, progress=False)
    assert dataset.channels == 5
    np.testing.assert_array_equal(load_image(dataset.cases[0], 5), stored)


def test_unmatched_stems_are_all_named(make_folder):
    root = make_folder({"a.png": GREY, "b.png": GREY}, {"a.png": MASK, "c.png": MASK})
    message = refused(root)
    assert "2 fault(s)" in message
    assert re.search(r"images/b\.png: an image without a mask\n.*add masks/b\.png", message)
    assert re.search(r"masks/c\.png: a mask without an image\n.*'c'", message)


def test_no_pair_at_all(make_folder):
    message = refused(make_folder({"a.png": GREY}, {"a_mask.png": MASK}))
    assert "no pair: 1 image(s) and 1 mask(s) share no stem" in message


def test_missing_folders_say_what_is_there(tmp_path):
    (tmp_path / "pictures").mkdir()
    message = refused(tmp_path)
    assert "no folder of images; there is pictures" in message
    assert "no folder of masks; there is pictures" in message
    assert "images: FOLDER" in message
    assert "masks: FOLDER" in message


def test_missing_root(tmp_path):
    assert "no such folder; name the one that holds images/" in refused(tmp_path / "absent")


def test_empty_images_folder_lists_suffixes(make_folder):
    root = make_folder({}, {"a.png": MASK}, files={"images/a.dcm": "x"})
    assert "suffixes found: .dcm" in refused(root)


def test_same_stem_twice(make_folder):
    root = make_folder({"a.png": GREY, "a.bmp": GREY}, {"a.png": MASK})
    assert "the stem 'a' stands twice, as a.bmp and a.png" in refused(root)


def test_size_mismatch_gives_both_sizes(make_folder):
    message = refused(make_folder({"a.png": GREY}, {"a.png": MASK[:, :4]}))
    assert (
        "masks/a.png: not the size of its image: 4 x 4 (H x W), but its image is 4 x 5" in message
    )


def test_sizes_are_compared_as_a_viewer_shows_them(make_folder):
    root = make_folder({}, {"a.png": MASK})
    # Orientation 6: stored 4 x 5, shown 5 x 4.
    tags = [(274, "H", 1, 6, True)]
    tifffile.imwrite(root / "images" / "a.tif", GREY, extratags=tags)
    message = refused(root)
    assert "EXIF orientation" in message
    assert "turn the mask" in message


def test_turned_image_fits_a_mask_of_the_shown_size(make_folder):
    root = make_folder({}, {"a.png": np.rot90(MASK, -1)})
    tifffile.imwrite(root / "images" / "a.tif", GREY, extratags=[(274, "H", 1, 6, True)])
    dataset = open_folder(root, progress=False)
    np.testing.assert_array_equal(load_image(dataset.cases[0], 1)[..., 0], np.rot90(GREY, -1))


def test_mask_of_0_and_255_suggests_the_map(make_folder):
    message = refused(make_folder({"a.png": GREY}, {"a.png": MASK * 255}))
    assert "mask values without a class: 255" in message
    assert "mask_map: {255: 1}" in message


def test_that_map_works(make_folder):
    root = make_folder({"a.png": GREY}, {"a.png": MASK * 255}, "mask_map: {255: 1}")
    dataset = open_folder(root, progress=False)
    np.testing.assert_array_equal(load_mask(dataset.cases[0], dataset.spec), MASK)


def test_unmapped_values_among_named_classes(make_folder):
    mask = MASK.copy()
    mask[0, :3] = 7, 9, 200
    yaml = "classes: [{name: background}, {name: cell}]"
    message = refused(make_folder({"a.png": GREY}, {"a.png": mask}, yaml))
    assert "without a class: 7, 9, 200" in message
    assert "class indices here are 0..1" in message


def test_grey_levels_are_told_from_indices(make_folder):
    ramp = np.arange(200, dtype=np.uint8).reshape(10, 20)
    ramp[0] = np.arange(5, 25)
    message = refused(make_folder({"a.png": ramp}, {"a.png": ramp}))
    assert "grey levels or instance numbers" in message


def test_ignored_value_becomes_255(make_folder):
    mask = MASK.copy()
    mask[0] = 77
    dataset = open_folder(
        make_folder({"a.png": GREY}, {"a.png": mask}, "ignore: 77"), progress=False
    )
    loaded = load_mask(dataset.cases[0], dataset.spec)
    assert (loaded[0] == 255).all()
    np.testing.assert_array_equal(loaded[1:], MASK[1:])
    assert dataset.facts["a"].ignored_pixels == 5
    assert sum(dataset.facts["a"].class_pixels) == 15


def test_colour_mask(make_folder):
    message = refused(make_folder({"a.png": GREY}, {"a.png": RGB}))
    assert "a mask of 3 channels (20 colours)" in message
    assert "single-channel PNG" in message


def test_grey_mask_stored_as_colour(make_folder):
    message = refused(make_folder({"a.png": GREY}, {"a.png": np.stack([MASK] * 3, axis=2)}))
    assert "grey values stored as colour" in message


def test_jpeg_mask_is_refused(make_folder):
    assert "JPEG" in refused(make_folder({"a.png": GREY}, {"a.jpg": MASK}))


def test_float_mask_is_refused(make_folder):
    root = make_folder({"a.png": GREY}, {})
    tifffile.imwrite(root / "masks" / "a.tif", MASK.astype(np.float32))
    assert "a mask of float32" in refused(root)


def test_16_bit_mask_values(make_folder):
    mask = MASK.astype(np.uint16) * 1000
    root = make_folder({"a.png": GREY}, {"a.png": mask}, "mask_map: {1000: 1}")
    dataset = open_folder(root, progress=False)
    np.testing.assert_array_equal(load_mask(dataset.cases[0], dataset.spec), MASK)


def test_truncated_image_is_found_though_its_header_is_whole(make_folder):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    root = make_folder(
        {"a.png": noise, "b.png": noise}, dict.fromkeys(("a.png", "b.png"), noise % 2)
    )
    path = root / "images" / "b.png"
    path.write_bytes(path.read_bytes()[:2000])
    message = refused(root)
    assert "1 fault(s)" in message
    assert "images/b.png: unreadable image" in message


def test_not_an_image(make_folder):
    root = make_folder({}, {"a.png": MASK}, files={"images/a.png": "no pixels here"})
    assert "images/a.png: unreadable image" in refused(root)


def test_nan_is_found(make_folder):
    root = make_folder({}, {"a.png": MASK})
    pixels = GREY.astype(np.float32)
    pixels[0, 0] = np.nan
    tifffile.imwrite(root / "images" / "a.tif", pixels)
    assert "images/a.tif: unreadable image: 1 of the TIFF's 20 samples are NaN" in refused(root)


def test_masks_without_any_structure(make_folder):
    message = refused(make_folder({"a.png": GREY}, {"a.png": MASK * 0}))
    assert "every mask is background" in message


def test_one_fault_in_many_files_is_told_once(make_folder):
    images = {f"{index:02d}.png": GREY for index in range(30)}
    message = refused(make_folder(images, {"00.png": MASK}))
    assert "29 fault(s) in the data set, of 1 kind(s)" in message
    assert "29 files: an image without a mask" in message
    named = "images/01.png, images/02.png, images/03.png, images/04.png, images/05.png"
    assert f"    {named} … and 24 more" in message
    assert message.count("->") == 1


def test_one_fault_with_other_numbers_in_each_file(make_folder):
    names = [f"{index}.png" for index in range(7)]
    masks = {name: np.zeros((4, 6 + index), np.uint8) for index, name in enumerate(names)}
    message = refused(make_folder(dict.fromkeys(names, GREY), masks))
    assert "7 files: not the size of its image\n" in message
    for index in range(5):
        line = f"masks/{index}.png: 4 x {6 + index} (H x W), but its image is 4 x 5\n"
        assert line in message
    assert "… and 2 more" in message
    assert "masks/5.png" not in message


def test_hidden_and_foreign_files_are_left_alone(make_folder):
    files = {"images/.DS_Store": "x", "images/notes.txt": "x", "masks/._a.png": "x"}
    root = make_folder({"a.png": GREY}, {"a.png": MASK}, files=files)
    assert len(open_folder(root, progress=False).cases) == 1


def test_class_names_of_a_caller(make_folder):
    root = make_folder({"a.png": GREY}, {"a.png": MASK})
    dataset = open_folder(root, class_names=["background", "cell", "nucleus"], progress=False)
    assert [c.name for c in dataset.classes] == ["background", "cell", "nucleus"]
    assert dataset.facts["a"].class_pixels == (10, 10, 0)


def test_select_refuses_unknown_stems(phantom_set):
    assert [c.stem for c in phantom_set.select(["phantom0003"])] == ["phantom0003"]
    with pytest.raises(DataError, match="nobody"):
        phantom_set.select(["nobody"])
