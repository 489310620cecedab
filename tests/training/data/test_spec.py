import pytest

from contract.errors import DataError
from training.data.spec import DatasetSpec, default_colour, read_dataset_spec


def refused(tmp_path, text: str) -> str:
    (tmp_path / "dataset.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_dataset_spec(tmp_path)
    return str(error.value)


def test_no_file_means_defaults(tmp_path):
    assert read_dataset_spec(tmp_path) == DatasetSpec()


def test_empty_file_means_defaults(tmp_path):
    (tmp_path / "dataset.yaml").write_text("# nothing yet\n")
    assert read_dataset_spec(tmp_path) == DatasetSpec()


def test_every_key_is_read(tmp_path):
    elsewhere = tmp_path / "other.yaml"
    elsewhere.write_text(
        """
classes:
  - {name: background}
  - {name: nucleus, colour: [1, 2, 3]}
mask_map: {255: 1}
ignore: 128
images: img
masks: lab
table: items.csv
stem_column: file
group_column: patient
channels: 3
licence: CC0-1.0
description: cells
"""
    )
    spec = read_dataset_spec(tmp_path, elsewhere)
    assert [c.name for c in spec.segment_classes] == ["background", "nucleus"]
    assert spec.segment_classes[0].colour == default_colour(0)
    assert spec.segment_classes[1].colour == (1, 2, 3)
    assert spec.mask_map == {255: 1}
    assert (spec.ignore, spec.images, spec.masks) == (128, "img", "lab")
    assert (spec.table, spec.stem_column, spec.group_column) == ("items.csv", "file", "patient")
    assert (spec.channels, spec.licence, spec.description) == (3, "CC0-1.0", "cells")


def test_named_file_must_exist(tmp_path):
    with pytest.raises(DataError, match=r"absent\.yaml.*--data\.spec"):
        read_dataset_spec(tmp_path, tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mask_maps: {255: 1}", "did you mean 'mask_map'?"),
        ("classes: [{name: a}, {name: b, color: [0, 0, 0]}]", "did you mean 'colour'?"),
        ("zzz: 1", "known keys: classes, mask_map"),
        ("classes: [{name: a}]", "put {name: background} first"),
        ("classes: [{name: a}, {name: a}]", "class names must differ"),
        ("classes: [{name: a}, {name: b}]\nmask_map: {255: 2}", "class indices are 0..1"),
        ("task: multilabel\nmask_map: {255: 2}", "class indices are 0..1"),
        ("ignore: 255\nmask_map: {255: 1}", "both ignored and in mask_map"),
        ("group_column: patient", "add table: items.csv"),
        ("ignore: -1", "greater than or equal to 0"),
        ("classes: [{name: a}, {name: b, colour: [0, 0, 300]}]", "less than or equal to 255"),
        ("task: binary", "'multiclass' or 'multilabel'"),
        ("- a\n- b", "expected keys and values"),
        ("classes: [", "not YAML"),
    ],
)
def test_refusals_name_the_remedy(tmp_path, text, said):
    message = refused(tmp_path, text)
    assert "dataset.yaml" in message
    assert said in message


def test_palette_never_gives_a_class_the_background_black():
    assert default_colour(0) == (0, 0, 0)
    assert all(default_colour(index) != (0, 0, 0) for index in range(1, 255))


def test_multilabel_has_no_background_colour():
    spec = DatasetSpec(task="multilabel").with_class_names(["lung"])
    assert spec.segment_classes[0].colour == default_colour(1)
