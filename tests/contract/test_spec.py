import json

import pytest
from pydantic import ValidationError

from contract.errors import SpecInvalid, SpecMissing, SpecTooNew
from contract.spec import METADATA_KEY, SCHEMA_VERSION, ModelSpec

SMALLEST = {
    "name": "nuclei",
    "classes": [
        {"name": "background", "colour": [0, 0, 0]},
        {"name": "nucleus", "colour": [255, 0, 0]},
    ],
    "channels": 1,
    "normalising": {"kind": "image"},
    "whole_image_max_pixels": 1_000_000,
    "net": {"architecture": "unet", "parameters": 10},
    "code_version": "0.1.0",
}


def spec(**changes):
    return ModelSpec.model_validate({**SMALLEST, **changes})


def test_there_and_back():
    written = spec(
        tiles={"patch": [512, 256], "overlap": 0.25}, preferred_precision={"cpu": "int8"}
    )
    text = written.to_metadata()
    assert ModelSpec.from_metadata({METADATA_KEY: text}, source="x") == written
    assert text == written.to_metadata()
    assert text.index('"channels":1') < text.index('"classes":[') < text.index('"working_size"')


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "Nuclei"}, "pattern"),
        ({"name": "../nuclei"}, "pattern"),
        ({"classes": SMALLEST["classes"][:1]}, "at least one class"),
        ({"classes": [SMALLEST["classes"][0]] * 2}, "must differ"),
        ({"channels": 0}, "greater than or equal to 1"),
        ({"colour_order": "RGB"}, "needs 3 channels, got 1"),
        ({"normalising": {"kind": "fixed"}}, "needs mean and std"),
        ({"normalising": {"kind": "image", "mean": [1], "std": [1]}}, "takes neither"),
        ({"normalising": {"kind": "fixed", "mean": [1, 2], "std": [1, 2]}}, "for 1 channels"),
        ({"normalising": {"kind": "fixed", "mean": [1], "std": [0]}}, "greater than 0"),
        ({"tiles": {"patch": [8, 8]}, "working_size": [8, 8]}, "never both"),
        ({"tiles": {"patch": [8, 8]}, "tileable": False}, "tileable is false"),
        ({"tiles": {"patch": [8, 8], "overlap": 1.0}}, "less than 1"),
        ({"latency_ms": 3}, "Extra inputs"),
        ({"members": 0}, "greater than or equal to 1"),
        ({"mirrors": ["both", "both"]}, "must differ"),
        ({"thresholds_prob": [0.5]}, "1 numbers for 2 classes"),
        ({"thresholds_prob": [0.5, 0.6]}, "sum to 1.1"),
        ({"thresholds_prob": [0.0, 1.0]}, "greater than 0"),
    ],
)
def test_an_invalid_spec_cannot_exist(changes, words):
    with pytest.raises(ValidationError, match=words):
        spec(**changes)


def test_one_class_suffices_for_multilabel():
    assert spec(task="multilabel", classes=SMALLEST["classes"][1:]).class_names == ("nucleus",)


def test_names_and_colours_by_index():
    assert spec().class_names == ("background", "nucleus")
    assert spec().palette == ((0, 0, 0), (255, 0, 0))


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (None, SpecMissing, "adopt FILE"),
        ("{", SpecInvalid, "not JSON"),
        ("[]", SpecInvalid, "no integer schema_version"),
        ('{"schema_version": "1"}', SpecInvalid, "no integer schema_version, got '1'"),
        (json.dumps({"schema_version": SCHEMA_VERSION + 1}), SpecTooNew, "Update Longskip"),
        ('{"schema_version": 0}', SpecInvalid, "Export the model again"),
        (json.dumps({"schema_version": SCHEMA_VERSION}), SpecInvalid, "does not validate"),
    ],
)
def test_metadata_that_hold_no_spec(text, error, words):
    metadata = {} if text is None else {METADATA_KEY: text}
    with pytest.raises(error, match=words) as caught:
        ModelSpec.from_metadata(metadata, source="a/model.onnx")
    assert "a/model.onnx" in str(caught.value)


def test_a_spec_of_the_schema_before_is_read_as_it_was_meant():
    text = json.dumps({**SMALLEST, "schema_version": SCHEMA_VERSION - 1})
    old = ModelSpec.from_metadata({METADATA_KEY: text}, source="x")
    assert (old.members, old.mirrors, old.calibration, old.thresholds_prob) == (1, (), None, None)
