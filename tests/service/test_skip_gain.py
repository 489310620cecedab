"""The option ``skip_gain``: what it does, where it is said, and what is refused."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from contract.model import Model
from contract.session import open_session
from imaging.decode import read_image

GAINS = ("1,1", "0.5,1", "1,0", "0,2", "2,0.25", "1,1", "0.5,1")


@pytest.fixture
def pixels(make_pixels: Any) -> Any:
    return make_pixels(33, 47, seed=5)


@pytest.fixture(scope="module")
def dial(models: Path) -> Any:
    """Plain onnxruntime on the file with a dial."""
    session = open_session(models / "dial" / "1" / "model.onnx", device="cpu", threads=1)

    def run(pixels_hwc: Any, spelt: str) -> dict[str, Any]:
        image = pixels_hwc.transpose(2, 0, 1)[None].astype(np.float32)
        gain = np.array([[float(number) for number in spelt.split(",")]], np.float32)
        names = ["labels", "probabilities"]
        answers = session.run(names, {"image": image, "skip_gain": gain})
        return {name: answer[0] for name, answer in zip(names, answers, strict=True)}

    return run


@pytest.mark.parametrize("spelt", ["0.5,1", "1,0", "2,2"])
def test_gains_reach_the_graph_and_are_said_in_header_and_json(
    segment: Any, dial: Any, pixels: Any, encode_png: Any, spelt: str
) -> None:
    image = encode_png(pixels)
    answer = segment("dial", image, format="npz", skip_gain=spelt)
    archive = np.load(io.BytesIO(answer.content))
    for name, expected in dial(pixels, spelt).items():
        np.testing.assert_array_equal(archive[name], expected)
    assert answer.headers["x-longskip-skip-gain"] == spelt
    said = segment("dial", image, format="json", skip_gain=spelt).json()["skip_gain"]
    assert said == [float(number) for number in spelt.split(",")]


def test_without_the_option_the_skips_are_as_they_were_trained_and_that_is_said(
    segment: Any, plain_onnxruntime: Any, pixels: Any, encode_png: Any
) -> None:
    answer = segment("dial", encode_png(pixels), format="npz")
    archive = np.load(io.BytesIO(answer.content))
    np.testing.assert_array_equal(
        archive["probabilities"], plain_onnxruntime("dial", pixels)["probabilities"]
    )
    assert answer.headers["x-longskip-skip-gain"] == "1,1"


def test_a_model_without_a_dial_says_nothing_of_one(
    segment: Any, client: httpx.Client, pixels: Any, encode_png: Any
) -> None:
    answer = segment("grey", encode_png(pixels), format="json")
    assert "x-longskip-skip-gain" not in answer.headers
    assert "skip_gain" not in answer.json()
    assert client.get("/v1/models/grey").json()["skip_levels"] == []


@pytest.mark.parametrize(
    ("model", "spelt", "words"),
    [
        ("dial", "1", "1 numbers; dial takes 2, one per level, finest first (1:1, 1:2)"),
        ("dial", "1,1,1", "3 numbers"),
        ("dial", "", "with commas between them"),
        ("dial", "1,", "with commas between them"),
        ("dial", "1,off", "with commas between them"),
        ("dial", "1,-0.1", "lie in 0 to 2"),
        ("dial", "1,2.01", "lie in 0 to 2"),
        ("dial", " ", "with commas between them"),
        ("dial", "nan,1", "with commas between them"),
        ("dial", "inf,1", "with commas between them"),
        ("dial", "0_1,1", "digits 0 to 9"),
        ("dial", "\uff11,1", "digits 0 to 9"),
        ("dial", "\u0661,1", "digits 0 to 9"),
        ("dial", "0x1,1", "digits 0 to 9"),
        ("dial", ".,1", "digits 0 to 9"),
        ("dial", "1e400,1", "lie in 0 to 2"),
        ("dial", "1," * 200, "at most 200"),
        ("grey", "1,1", "without a dial for its long skips; leave skip_gain out"),
    ],
)
def test_what_does_not_fit_is_422_and_says_what_does(
    segment: Any, pixels: Any, encode_png: Any, model: str, spelt: str, words: str
) -> None:
    answer = segment(model, encode_png(pixels), skip_gain=spelt)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("spelt", "said"),
    [
        ("-0,1", "0,1"),
        ("-0e0,-1e-400", "0,0"),
        ("1, 0.5", "1,0.5"),
        ("1e-1,+2.", "0.1,2"),
        ("0.12345678,1", "0.12345678,1"),
    ],
)
def test_what_is_meant_for_a_number_is_taken_and_said_plainly(
    segment: Any, pixels: Any, encode_png: Any, spelt: str, said: str
) -> None:
    answer = segment("dial", encode_png(pixels), format="json", skip_gain=spelt)
    assert answer.headers["x-longskip-skip-gain"] == said
    assert ",".join(f"{gain:.8g}" for gain in answer.json()["skip_gain"]) == said


def test_an_option_that_is_named_twice_is_refused(
    client: httpx.Client, pixels: Any, encode_png: Any
) -> None:
    for query in ("skip_gain=1,1&skip_gain=0,0", "format=json&skip_gain=1,1&format=png"):
        answer = client.post(f"/v1/models/dial/segment?{query}", content=encode_png(pixels))
        assert answer.status_code == 422
        name = query.rpartition("&")[2].partition("=")[0]
        assert f"the query names {name} more than once" in answer.json()["detail"]


def test_an_option_in_the_form_is_refused_rather_than_left_without_effect(
    client: httpx.Client, pixels: Any, encode_png: Any
) -> None:
    image, url = encode_png(pixels), "/v1/models/dial/segment"
    answer = client.post(url, files={"file": image}, data={"skip_gain": "0,0"})
    assert answer.status_code == 422
    assert "the form has 1 part beside 'file'; options go into the query" in answer.json()["detail"]
    assert client.post(url, files={"file": image}).status_code == 200


def test_the_levels_are_shown_with_stride_and_kind(client: httpx.Client) -> None:
    levels = [{"stride": 1, "kind": "concat"}, {"stride": 2, "kind": "add"}]
    assert client.get("/v1/models/dial").json()["skip_levels"] == levels
    index = {entry["name"]: entry for entry in client.get("/v1/models").json()["models"]}
    assert index["dial"]["skip_levels"] == levels


def test_openapi_documents_the_option(client: httpx.Client) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/v1/models/{model}/segment"]["post"]
    option = next(p for p in operation["parameters"] if p["name"] == "skip_gain")
    assert "finest level first" in option["description"]
    assert "X-Longskip-Skip-Gain" in operation["responses"]["200"]["headers"]


def test_different_gains_share_a_batch_and_each_gets_its_own_bits(
    serve_in_thread: Any,
    shut_gate: Any,
    wait_until_waiting: Any,
    models: Path,
    dial: Any,
    pixels: Any,
    encode_png: Any,
) -> None:
    model = shut_gate(Model.open(models / "dial" / "1" / "model.onnx", device="cpu", threads=1))
    image = encode_png(pixels)
    with serve_in_thread([("dial", model)], max_batch=8) as address, ThreadPoolExecutor(9) as pool:

        def post(**query: str) -> httpx.Response:
            url = f"{address}/v1/models/dial/segment"
            return httpx.post(url, params={"format": "npz", **query}, content=image, timeout=60)

        waiting = [pool.submit(post)]
        assert model.entered.acquire(timeout=30)
        waiting += [pool.submit(post, skip_gain=spelt) for spelt in GAINS]
        wait_until_waiting(address, "dial", len(GAINS))
        model.gate.set()
        answers = [answer.result() for answer in waiting]
    for spelt, answer in zip(("1,1", *GAINS), answers, strict=True):
        assert answer.headers["x-longskip-skip-gain"] == spelt
        archive = np.load(io.BytesIO(answer.content))
        for name, expected in dial(pixels, spelt).items():
            np.testing.assert_array_equal(archive[name], expected)
    assert model.sizes_run == [(1, 1, 33, 47), (len(GAINS), 1, 33, 47)]


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.onnx", "model.int8.onnx"])
def test_the_shipped_net_answers_the_same_bits_alone_and_batched_with_any_gains(
    repository_root: Path, file: str
) -> None:
    model = Model.open(
        repository_root / "models" / "nuclei" / "1" / file, device="cpu", prove=False
    )
    levels = len(model.spec.skip_gain_strides)
    if levels == 0:
        pytest.skip("the shipped net was exported without a dial")
    gains = np.concatenate([np.ones((1, levels)), np.eye(levels), np.full((1, levels), 0.3)])
    picture = read_image(sorted((repository_root / "docs" / "samples").glob("*.png"))[0])
    image_chw = picture.pixels_hwc[:61, :83, :3].transpose(2, 0, 1).astype(np.float32)
    batch = model.run(
        np.stack([image_chw] * len(gains)),
        skip_gain=gains.astype(np.float32),
        outputs=("labels", "probabilities"),
    )
    for n, row in enumerate(gains):
        alone = model.segment(image_chw, skip_gain=tuple(row), probabilities=True)
        np.testing.assert_array_equal(batch["labels"][n], alone.labels)
        np.testing.assert_array_equal(batch["probabilities"][n], alone.probabilities)
    assert len({labels.tobytes() for labels in batch["labels"]}) > 2  # the gains have an effect
