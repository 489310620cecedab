"""A file whose optional inputs became inputs gives the same bits, once it is fed with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from contract.errors import ModelBroken
from contract.feeds import whole_feeds
from contract.model import Model
from contract.optional_inputs import OPTIONAL_INPUTS, require_inputs
from contract.session import open_session
from contract.statistics import image_statistics

Build = Callable[..., Path]
Picture = Callable[..., Any]


def names(tensors: Any) -> list[str]:
    return [tensor.name for tensor in tensors]


def open_required(path: Path) -> Any:
    model, _ = require_inputs(path.read_bytes(), source="it")
    stripped = path.with_suffix(".required.onnx")
    stripped.write_bytes(model)
    return open_session(stripped, device="cpu", threads=1)


def run_all(session: Any, feeds: dict[str, Any]) -> list[Any]:
    return session.run(["labels", "probabilities"], feeds)


@pytest.mark.parametrize("file", ["model.onnx", "model.fp16.onnx", "model.int8.onnx"])
def test_nothing_but_two_values_is_left_out(repository_root: Path, file: str) -> None:
    path = repository_root / "models" / "nuclei" / "1" / file
    stripped, found = require_inputs(path.read_bytes(), source=str(path))
    assert sorted(found) == sorted(OPTIONAL_INPUTS)
    before, after = onnx.load(path), onnx.load_model_from_string(stripped)
    for name in OPTIONAL_INPUTS:
        (value,) = (tensor for tensor in before.graph.initializer if tensor.name == name)
        before.graph.initializer.remove(value)
    assert after == before


def test_a_file_without_optional_inputs_stays_as_it_is(
    tmp_path: Path, build_threshold_model: Build
) -> None:
    path = build_threshold_model(tmp_path / "model.onnx", with_statistics=False)
    assert require_inputs(path.read_bytes(), source="it") == (path.read_bytes(), ())


def test_they_are_inputs_then_and_have_no_value(
    tmp_path: Path, build_threshold_model: Build, picture: Picture
) -> None:
    path = build_threshold_model(tmp_path / "model.onnx", with_dial=True)
    session = open_required(path)
    assert set(names(session.get_inputs())) == {"image", *OPTIONAL_INPUTS}
    with pytest.raises(ValueError, match="statistics"):
        run_all(session, {"image": picture(1, 8, 8)[None]})


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"statistics": np.array([[[90, 40]]], np.float32)},
        {"skip_gain": np.array([[0.5, 2]], np.float32)},
        {"statistics": np.full((1, 1, 2), np.nan, np.float32)},
    ],
)
def test_fed_with_what_stood_in_the_file_it_gives_the_same_bits(
    tmp_path: Path,
    build_threshold_model: Build,
    picture: Picture,
    batch: int,
    given: dict[str, Any],
) -> None:
    model = Model.open(
        build_threshold_model(tmp_path / "model.onnx", with_dial=True), device="cpu", threads=1
    )
    feeds = {"image": np.stack([picture(1, 33, 47, seed=n) for n in range(batch)]), **given}
    whole = whole_feeds(model.spec, feeds, takes_statistics=True, own_statistics=False)
    expected, found = run_all(model.session, feeds), run_all(open_required(model.path), whole)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_own_statistics_are_reduced_in_float64_where_none_are_given(
    open_threshold_model: Callable[..., Model], picture: Picture
) -> None:
    spec = open_threshold_model(channels=2).spec
    images = np.stack([picture(2, 9, 13, seed=n) + 60_000 for n in range(3)])
    given = np.full((3, 2, 2), np.nan, np.float32)
    given[1] = [[7, 2], [8, 3]]
    found = whole_feeds(
        spec,
        {"image": images, "statistics": given},
        takes_statistics=True,
        own_statistics=True,
    )
    own = [image_statistics(image) for image in images]
    np.testing.assert_array_equal(found["statistics"], [own[0], given[1], own[2]])
    assert "skip_gain" not in found
    alone = whole_feeds(spec, {"image": images}, takes_statistics=False, own_statistics=True)
    assert list(alone) == ["image"]


@pytest.mark.parametrize("content", [b"torn", b"\x3a\xff\x01"])
def test_what_is_no_onnx_file_is_told(content: bytes) -> None:
    with pytest.raises(ModelBroken, match=r"it\.onnx cannot be read"):
        require_inputs(content, source="it.onnx")
