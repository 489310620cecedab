"""Metadata read past the weights are those that onnx itself reads, and damage is told."""

import contextlib
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ModelBroken, ModelNotFound
from contract.metadata import read_metadata

TEXTS = st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=300), max_size=4)


def proto(metadata: dict[str, str], weights: int = 300) -> onnx.ModelProto:
    number = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [weights], [1.5] * weights)
    graph = onnx.helper.make_graph([], "g", [], [], [number])
    model = onnx.helper.make_model(graph, producer_name="test", model_version=2**40)
    onnx.helper.set_model_props(model, metadata)
    return model


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("metadata") / "model.onnx"


@given(metadata=TEXTS)
def test_any_text_is_read_as_it_was_written(file: Path, metadata: dict[str, str]) -> None:
    file.write_bytes(proto(metadata).SerializeToString())
    assert read_metadata(file) == metadata


@given(metadata=TEXTS, share=st.floats(0, 1))
def test_a_torn_file_is_told_or_ends_between_two_fields(
    file: Path, metadata: dict[str, str], share: float
) -> None:
    whole = proto(metadata).SerializeToString()
    file.write_bytes(whole[: int(share * (len(whole) - 1))])
    found = None
    with contextlib.suppress(ModelBroken):
        found = read_metadata(file)
    if found is not None:
        assert found.items() <= metadata.items()
        onnx.load_model_from_string(file.read_bytes())


@pytest.mark.parametrize("content", [b"torn", b"\xff" * 40, b"\x7a\xff\xff\xff\xff\x0f"])
def test_what_is_no_onnx_file_is_told(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ModelBroken, match="cannot be read as an ONNX model"):
        read_metadata(file)


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no model file"):
        read_metadata(tmp_path / "model.onnx")
