"""The wire of the Open Inference Protocol: what is read, what is refused, what goes back."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from contract.errors import RequestInvalid
from service.errors import BodyTooLarge
from service.protocols import v2_tensors
from service.protocols.v2_tensors import AskedOutput, read_request, write_answer

IMAGE = {"name": "image", "datatype": "FP32", "shape": [1, 1, 2, 2], "data": [0, 1.5, -2, 3]}


def body_of(*inputs: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"inputs": list(inputs or (IMAGE,)), **fields}).encode()


def with_bytes(blob: bytes, **changed: Any) -> tuple[bytes, int]:
    tensor = {**IMAGE, "parameters": {"binary_data_size": len(blob)}, **changed}
    del tensor["data"]
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + blob, len(head)


def test_flat_and_nested_data_are_the_same() -> None:
    flat = read_request(body_of(), None).inputs["image"]
    nested = read_request(body_of({**IMAGE, "data": [[[[0, 1.5], [-2, 3]]]]}), None)
    assert flat.dtype == np.float32
    np.testing.assert_array_equal(flat, np.array([[[[0, 1.5], [-2, 3]]]], np.float32))
    np.testing.assert_array_equal(nested.inputs["image"], flat)


@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    st.booleans(),
)
def test_what_is_written_is_read_again(array: Any, binary: bool) -> None:
    text, length = write_answer({}, [(AskedOutput("image", binary), array)])
    assert (length is not None) == binary
    head = json.loads(text[:length])
    asked = json.dumps({"inputs": head["outputs"]}).encode()
    blob = b"" if length is None else text[length:]

    read = read_request(asked + blob, len(asked)).inputs["image"]

    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_uint8_goes_both_ways_and_refuses_what_it_cannot_hold() -> None:
    labels = np.array([[0, 255]], np.uint8)
    for binary in (True, False):
        text, length = write_answer({"id": "a"}, [(AskedOutput("labels", binary), labels)])
        assert json.loads(text[:length])["outputs"][0]["datatype"] == "UINT8"
    tensor = {"name": "x", "datatype": "UINT8", "shape": [1]}
    for value in (256, -1, 0.5):
        with pytest.raises(RequestInvalid, match="UINT8 does not"):
            read_request(body_of({**tensor, "data": [value]}), None)


def test_bytes_are_read_in_order_after_the_json() -> None:
    first, second = np.arange(4, dtype="<f4"), np.arange(2, dtype="<f4")
    head = json.dumps(
        {
            "inputs": [
                {**IMAGE, "data": None, "parameters": {"binary_data_size": 16}},
                {
                    "name": "skip_gain",
                    "datatype": "FP32",
                    "shape": [1, 2],
                    "parameters": {"binary_data_size": 8},
                },
            ]
        }
    ).encode()
    inputs = read_request(head + first.tobytes() + second.tobytes(), len(head)).inputs
    np.testing.assert_array_equal(inputs["image"].ravel(), first)
    np.testing.assert_array_equal(inputs["skip_gain"], [second])


def test_what_is_asked_for() -> None:
    outputs = [{"name": "labels", "parameters": {"binary_data": False}}, {"name": "probabilities"}]
    parameters = {"binary_data_output": True, "timeout": 1500, "priority": 3, "mine": "x"}
    asked = read_request(body_of(id="7", outputs=outputs, parameters=parameters), None)
    assert asked.request_id == "7"
    assert asked.outputs == (AskedOutput("labels", False), AskedOutput("probabilities", True))
    assert asked.all_binary
    assert asked.timeout_s == 0.0015
    plain = read_request(body_of(), None)
    assert (plain.request_id, plain.outputs, plain.all_binary, plain.timeout_s) == (
        *("", ()),
        *(False, None),
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "does not parse at byte 0"),
        (b"{", "does not parse"),
        (b"[]", "is no object"),
        (b"\xff", "does not parse"),
        (b"[" * 100_000, "does not parse"),
        (b'{"inputs": [NaN]}', "which JSON does not have"),
        (b"{}", "'inputs' must be a list"),
        (b'{"inputs": []}', "'inputs' is empty"),
        (b'{"inputs": [3]}', "'inputs' must be a list of objects"),
        (body_of({"datatype": "FP32"}), "needs 'name', a string"),
        (body_of(IMAGE, IMAGE), "name of an input before it"),
        (body_of({**IMAGE, "datatype": "FP64"}), "they take FP32"),
        (body_of({**IMAGE, "shape": [1, 1, -2, 2]}), "whole numbers from 0"),
        (body_of({**IMAGE, "shape": [True]}), "whole numbers from 0"),
        (body_of({**IMAGE, "shape": [1] * 9}), "at most 8"),
        (body_of({**IMAGE, "shape": [10**30]}), "whole numbers from 0"),
        (body_of({**IMAGE, "shape": "4"}), "needs 'shape', a list"),
        (body_of({**IMAGE, "data": [1, 2, 3]}), "'shape' says"),
        (body_of({**IMAGE, "data": [[0, 1, 2, 3]]}), "'shape' says"),
        (body_of({**IMAGE, "data": [[0], [1, 2, 3]]}), "neither flat nor of one shape"),
        (body_of({**IMAGE, "data": ["0", "1", "2", "3"]}), "no number"),
        (body_of({**IMAGE, "data": [True, False, True, True]}), "no number"),
        (body_of({**IMAGE, "data": [0, 1, 2, 10**40]}), "no number"),
        (body_of({**IMAGE, "data": [0, 1, 2, 1e39]}), "too large for its datatype"),
        (body_of({**IMAGE, "data": [0, 1, 2, 3]}).replace(b"3]", b"1e400]"), "holds NaN, infinity"),
        (body_of({**IMAGE, "parameters": 3}), "needs 'parameters', a object"),
        (body_of({**IMAGE, "parameters": {"shared_memory_region": "x"}}), "shared memory"),
        (body_of({**IMAGE, "parameters": {"binary_data_size": -4}}), "whole number from 0"),
        (body_of({**IMAGE, "parameters": {"binary_data_size": 16}}), "0 are left"),
        (body_of(outputs=[{"name": "labels"}] * 2), "name of an output before it"),
        (
            body_of(outputs=[{"name": "labels", "parameters": {"classification": 2}}]),
            "these models segment",
        ),
        (
            body_of(outputs=[{"name": "labels", "parameters": {"binary_data": "yes"}}]),
            "must be true or false",
        ),
        (body_of(parameters={"timeout": -1}), "microseconds"),
        (body_of(id=3), "needs 'id', a string"),
    ],
)
def test_what_does_not_follow_the_protocol_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(RequestInvalid, match=reason):
        read_request(body, None)


def test_lengths_that_do_not_fit_are_refused() -> None:
    whole, length = with_bytes(bytes(16))
    with pytest.raises(RequestInvalid, match="but the body has"):
        read_request(whole, len(whole) + 1)
    with pytest.raises(RequestInvalid, match="belong to none"):
        read_request(whole + b"x", length)
    with pytest.raises(RequestInvalid, match="15 are left"):
        read_request(whole[:-1], length)
    short, length = with_bytes(bytes(12))
    with pytest.raises(RequestInvalid, match=r"12 bytes; its shape \[1, 1, 2, 2\] needs 16"):
        read_request(short, length)


def test_long_json_is_sent_on_to_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v2_tensors, "JSON_BYTES_MAX", 50)
    with pytest.raises(BodyTooLarge, match="send the tensor as bytes"):
        read_request(body_of(), None)


def test_an_error_does_not_quote_the_client() -> None:
    with pytest.raises(RequestInvalid) as refused:
        read_request(b'{"inputs": [{"name": "Doe_Jane", "datatype": "Doe_Jane"}]}', None)
    assert "Doe" not in str(refused.value)


def test_nan_is_refused_as_bytes_and_is_no_json() -> None:
    head = body_of({**IMAGE, "data": None, "parameters": {"binary_data_size": 16}})
    values = np.array([0, np.nan, 1, 2], np.float32)
    with pytest.raises(RequestInvalid, match=r"inputs\[0\] holds NaN"):
        read_request(head + values.tobytes(), len(head))
    body, length = write_answer({}, [(AskedOutput("probabilities", True), values)])
    assert length is not None
    assert body[length:] == values.tobytes()
    with pytest.raises(RequestInvalid, match="probabilities holds NaN, which JSON does not have"):
        write_answer({}, [(AskedOutput("probabilities", False), values)])
