"""The optional input ``skip_gain``: per image, per tile, and what does not fit."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contract.embed import embed_spec
from contract.errors import ModelBroken, RequestInvalid
from contract.model import Model
from contract.skip_gain import check_gains
from contract.spec import METADATA_KEY, ModelSpec, Tiles

BOTH = ("labels", "probabilities")


@pytest.fixture
def dial(open_threshold_model: Any) -> Any:
    return open_threshold_model(with_dial=True)


def test_the_guide_quotes_what_onnxruntime_says_of_the_input_and_how_to_silence_it(
    dial: Any, capfd: pytest.CaptureFixture[str], repository_root: Path
) -> None:
    guide = " ".join((repository_root / "docs/guide/skip-dial.md").read_text().split())
    ort.InferenceSession(dial.path)
    said = re.findall(r"Initializer \S+ appears[^\x1b\n]*", capfd.readouterr().err)
    assert [words.split()[1] for words in said] == ["statistics", "skip_gain"]
    assert said[1] in guide
    quiet = ort.SessionOptions()
    quiet.log_severity_level = 3
    assert "log_severity_level = 3" in guide
    ort.InferenceSession(dial.path, quiet)
    assert capfd.readouterr().err == ""


def spec(**changes: Any) -> ModelSpec:
    fields: dict[str, Any] = {
        "name": "nuclei",
        "classes": [{"name": n, "colour": [0, 0, 0]} for n in ("background", "nucleus")],
        "channels": 1,
        "normalising": {"kind": "image"},
        "whole_image_max_pixels": 1_000_000,
        "net": {"architecture": "unet", "parameters": 10, "long_skips": ["concat", "none", "add"]},
        "skip_gain_strides": [1, 2, 4],
        "code_version": "0.1.0",
    }
    return ModelSpec.model_validate({**fields, **changes})


def test_gains_turn_the_answer_and_left_out_they_are_1(dial: Any, picture: Any) -> None:
    image = picture(1, 20, 31)
    rest = dial.segment(image, probabilities=True)
    same = dial.segment(image, probabilities=True, skip_gain=(1, 1))
    np.testing.assert_array_equal(rest.probabilities, same.probabilities)
    even = dial.segment(image, probabilities=True, skip_gain=(1, 0))
    np.testing.assert_array_equal(even.probabilities, np.full((2, 20, 31), 0.5, np.float32))
    fewer = dial.segment(image, skip_gain=(0.5, 1)).labels
    assert 0 < fewer.sum() < rest.labels.sum()


def test_each_image_of_a_batch_has_its_own_gains(dial: Any, picture: Any) -> None:
    images = np.stack([picture(1, 20, 31, seed=n) for n in range(3)])
    gains = np.array([[1, 1], [0.5, 2], [2, 0.25]], np.float32)
    batch = dial.run(images, skip_gain=gains, outputs=BOTH)
    for n in range(3):
        alone = dial.run(images[n : n + 1], skip_gain=gains[n : n + 1], outputs=BOTH)
        for name in BOTH:
            np.testing.assert_array_equal(batch[name][n], alone[name][0])
    for_all = dial.run(images, skip_gain=gains[1:2], outputs=BOTH)
    np.testing.assert_array_equal(for_all["labels"][1], batch["labels"][1])


def test_all_tiles_of_an_image_have_the_gains_of_the_image(
    open_threshold_model: Any, picture: Any
) -> None:
    image = picture(1, 90, 110)
    tiles = Tiles(patch=(32, 48))
    tiled, whole = (
        open_threshold_model(with_dial=True, tiles=tiles, whole_image_max_pixels=limit)
        for limit in (64 * 64, 1 << 20)
    )
    answers = [m.segment(image, probabilities=True, skip_gain=(0.5, 1)) for m in (tiled, whole)]
    assert [answer.tiled for answer in answers] == [True, False]
    inner = np.s_[:, 1:-1, 1:-1]  # a tile's border has zeros outside, in the blend as well
    np.testing.assert_allclose(
        answers[0].probabilities[inner], answers[1].probabilities[inner], atol=0.02
    )
    assert (answers[0].labels == answers[1].labels).mean() > 0.99
    assert (answers[0].labels != tiled.segment(image).labels).any()


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        (np.ones((1, 2), np.float64), r"float64 \[1, 2\]; give float32 \[1 or 1, 2\]"),
        (np.ones((2, 2), np.float32), r"\[2, 2\]; give float32 \[1 or 1, 2\]"),
        (np.ones(2, np.float32), r"\[2\]; give"),
        (np.ones((1, 3), np.float32), "3 numbers; threshold takes 2.*1:1, 1:2"),
        (np.full((1, 2), 2.5, np.float32), "lie in 0 to 2"),
        (np.full((1, 2), np.nan, np.float32), "lie in 0 to 2"),
    ],
)
def test_gains_that_do_not_fit(dial: Any, picture: Any, gains: Any, words: str) -> None:
    with pytest.raises(RequestInvalid, match=words):
        dial.run(picture(1, 8, 8)[None], skip_gain=gains)


def test_a_model_without_a_dial_takes_none(open_threshold_model: Any, picture: Any) -> None:
    with pytest.raises(RequestInvalid, match=r"without a dial.*--gated"):
        open_threshold_model().segment(picture(1, 8, 8), skip_gain=(1, 1))


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=5))
def test_only_one_number_from_0_to_2_per_level_passes(gains: list[float]) -> None:
    fits = len(gains) == 3 and all(0 <= gain <= 2 for gain in gains)
    if fits:
        check_gains(spec(), gains)
    else:
        with pytest.raises(RequestInvalid):
            check_gains(spec(), gains)


@pytest.mark.parametrize(
    ("strides", "words"),
    [
        ([1, 2], "2 levels, net.long_skips 3"),
        ([4, 2, 1], "finest first"),
        ([1, 1, 2], "finest first"),
        ([0, 1, 2], "greater than or equal to 1"),
    ],
)
def test_strides_that_cannot_be(strides: list[int], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        spec(skip_gain_strides=strides)


def test_a_spec_of_the_schema_before_has_no_dial() -> None:
    old = spec(skip_gain_strides=[], schema_version=2).model_dump_json(
        exclude={"skip_gain_strides"}
    )
    assert ModelSpec.from_metadata({METADATA_KEY: old}, source="x").skip_gain_strides == ()


@pytest.mark.parametrize(
    ("with_dial", "strides", "words"),
    [
        (True, (), "the optional input 'skip_gain', but its spec names 0 levels"),
        (False, (1, 2), "no optional input 'skip_gain', but its spec names 2 levels"),
        (True, (1, 2, 4), r"'skip_gain' has shape \['gain_batch', 2\], expected \['\?', 3\]"),
    ],
)
def test_graph_and_spec_must_agree(
    open_threshold_model: Any, with_dial: bool, strides: tuple[int, ...], words: str
) -> None:
    model = open_threshold_model(with_dial=with_dial)
    net = model.spec.net.model_copy(update={"long_skips": ("concat", "add", "add")[: len(strides)]})
    graph = onnx.load(model.path)
    embed_spec(graph, model.spec.model_copy(update={"skip_gain_strides": strides, "net": net}))
    model.path.write_bytes(graph.SerializeToString())
    with pytest.raises(ModelBroken) as caught:
        Model.open(model.path, device="cpu", prove=False)
    assert re.search(words, str(caught.value))
