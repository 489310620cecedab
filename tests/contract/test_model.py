import hashlib

import numpy as np
import onnxruntime as ort
import pytest
from scipy.ndimage import uniform_filter

from contract import model as model_module
from contract.errors import (
    ChannelMismatch,
    GoldenMismatch,
    ImageTooLarge,
    ModelBroken,
    RequestInvalid,
    SpecInvalid,
    SpecMissing,
    SpecTooNew,
)
from contract.model import Model
from contract.session import open_session
from contract.spec import Tiles
from contract.statistics import image_statistics

BOTH = ("labels", "probabilities")
SIZES = [(1, 1), (1, 37), (31, 1), (33, 47), (64, 64)]


def test_what_is_known_after_opening(open_threshold_model):
    model = open_threshold_model(name="nuclei", classes=("background", "nucleus"))
    assert model.spec.name == "nuclei"
    assert model.spec.class_names == ("background", "nucleus")
    assert model.sha256 == hashlib.sha256(model.path.read_bytes()).hexdigest()
    assert (model.provider, model.precision) == ("CPUExecutionProvider", "fp32")
    assert model.takes_statistics


def test_the_threshold_model_does_what_it_says(open_threshold_model, picture):
    """Otherwise the tests below would compare a model with itself."""
    model = open_threshold_model(channels=2, threshold=0.25, classes=("a", "b", "c"))
    image = picture(2, 20, 31)
    z = (image - image.mean((1, 2), keepdims=True)) / image.std((1, 2), keepdims=True)
    mean = uniform_filter(z.mean(axis=0), 3, mode="constant")
    expected = (mean > 0.25).astype(int) + (mean > 1.25)
    clear = np.abs(mean - np.array([0.25, 1.25])[:, None, None]).min(axis=0) > 1e-4
    labels = model.segment(image).labels
    assert (labels == expected)[clear].all()
    assert set(np.unique(labels)) == {0, 1, 2}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_shapes_and_types_at_any_size(open_threshold_model, picture, size, task):
    model = open_threshold_model(task=task, channels=3, classes=("one", "two"))
    answer = model.run(picture(3, *size)[None], outputs=BOTH)
    planes = (2,) if task == "multilabel" else ()
    assert (answer["labels"].dtype, answer["labels"].shape) == (np.uint8, (1, *planes, *size))
    assert answer["probabilities"].dtype == np.float32
    assert answer["probabilities"].shape == (1, 2, *size)
    segmentation = model.segment(picture(3, *size), probabilities=True)
    assert np.array_equal(segmentation.labels, answer["labels"][0])
    assert np.array_equal(segmentation.probabilities, answer["probabilities"][0])
    assert not segmentation.tiled


@pytest.mark.parametrize("size", SIZES)
def test_a_batch_answers_bit_for_bit_as_its_images_alone(open_threshold_model, picture, size):
    model = open_threshold_model(channels=2)
    images = [picture(2, *size, seed=seed) * (seed + 1) for seed in range(3)]
    batch = model.run(np.stack(images), outputs=BOTH)
    for index, image in enumerate(images):
        alone = model.run(image[None], outputs=BOTH)
        assert np.array_equal(batch["labels"][index], alone["labels"][0])
        assert np.array_equal(batch["probabilities"][index], alone["probabilities"][0])


def test_five_lines_of_onnxruntime_give_the_same(open_threshold_model, picture):
    model, image = open_threshold_model(), picture(1, 33, 47)
    session = ort.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    (labels,) = session.run(["labels"], {"image": image[None]})
    assert np.array_equal(model.segment(image).labels, labels[0])


def test_only_the_wanted_outputs_come(open_threshold_model, picture):
    model, image = open_threshold_model(), picture(1, 8, 8)
    assert list(model.run(image[None])) == ["labels"]
    assert list(model.run(image[None], outputs=("probabilities",))) == ["probabilities"]
    assert model.segment(image).probabilities is None


def test_statistics_given_are_used(open_threshold_model, picture):
    model, image = open_threshold_model(), picture(1, 20, 20)
    own = model.run(image[None], outputs=BOTH)
    same = model.run(image[None], statistics=image_statistics(image)[None], outputs=BOTH)
    assert np.allclose(own["probabilities"], same["probabilities"], atol=1e-6)
    nothing = np.full((1, 1, 2), np.nan, np.float32)
    by_nan = model.run(image[None], statistics=nothing, outputs=BOTH)
    assert np.array_equal(own["probabilities"], by_nan["probabilities"])
    dark = model.run(image[None], statistics=np.array([[[1000, 1]]], np.float32))
    assert not dark["labels"].any()


def test_statistics_per_image_of_a_batch(open_threshold_model, picture):
    model, image = open_threshold_model(), picture(1, 20, 20)
    statistics = np.array([[[1000, 1]], [[-1000, 1]]], np.float32)
    labels = model.run(np.stack([image, image]), statistics=statistics)["labels"]
    assert not labels[0].any()
    assert labels[1, 1:-1, 1:-1].all()


def test_a_strided_image_is_taken(open_threshold_model, picture):
    model = open_threshold_model(channels=3)
    image = picture(3, 20, 31)
    view = np.ascontiguousarray(image.transpose(1, 2, 0)).transpose(2, 0, 1)
    assert not view.flags.c_contiguous
    assert np.array_equal(model.segment(view).labels, model.segment(image).labels)


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (np.zeros((1, 8, 8), np.int32), RequestInvalid, "int32.*float32"),
        (np.zeros((1, 8, 8), np.float64), RequestInvalid, "float64.*float32"),
        (np.zeros((8, 8), np.float32), RequestInvalid, r"\[8, 8\].*\[C, H, W\]"),
        (np.zeros((1, 0, 8), np.float32), RequestInvalid, r"\[1, 0, 8\].*>= 1"),
        (np.zeros((3, 8, 8), np.float32), ChannelMismatch, "3 channels.*takes 1"),
        ([[[0.0]]], RequestInvalid, "list.*float32"),
    ],
)
def test_an_image_that_does_not_fit(open_threshold_model, image, error, words):
    model = open_threshold_model()
    with pytest.raises(error, match=words):
        model.segment(image)
    batch = image[None] if isinstance(image, np.ndarray) else image
    with pytest.raises(error):
        model.run(batch)


@pytest.mark.parametrize(
    "statistics",
    [
        np.zeros((1, 1, 2), np.float64),
        np.zeros((3, 1, 2), np.float32),
        np.zeros((1, 2, 2), np.float32),
        np.zeros((1, 2), np.float32),
    ],
)
def test_statistics_that_do_not_fit(open_threshold_model, statistics):
    with pytest.raises(RequestInvalid, match=r"give float32 \[1 or 2, 1, 2\]"):
        open_threshold_model().run(np.zeros((2, 1, 8, 8), np.float32), statistics=statistics)


def test_statistics_for_a_model_without_them(open_threshold_model):
    model = open_threshold_model(with_statistics=False)
    assert not model.takes_statistics
    with pytest.raises(RequestInvalid, match="has no input 'statistics'"):
        model.run(np.zeros((1, 1, 8, 8), np.float32), statistics=np.zeros((1, 1, 2), np.float32))


@pytest.mark.parametrize("outputs", [(), ("logits",), ("labels", "logits")])
def test_outputs_that_there_are_not(open_threshold_model, outputs):
    with pytest.raises(RequestInvalid, match=r"the file has \['labels', 'probabilities'\]"):
        open_threshold_model().run(np.zeros((1, 1, 8, 8), np.float32), outputs=outputs)


@pytest.mark.parametrize("options", [{}, {"task": "multilabel", "classes": ("a", "b")}])
def test_disagreement_comes_with_probabilities_whole_and_tiled(
    open_threshold_model, picture, options
):
    tiles = Tiles(patch=(48, 64))
    limits = {"whole_image_max_pixels": 4000, "tiles": tiles, "threshold": 0.0}
    model = open_threshold_model(with_disagreement=True, **limits, **options)
    assert model.outputs == ("labels", "probabilities", "disagreement")
    plain = open_threshold_model(**limits, **options)
    assert plain.outputs == ("labels", "probabilities")
    for size, tiled in (((40, 50), False), ((100, 90), True)):
        image = picture(1, *size)
        answer, without = model.segment(image, probabilities=True), plain.segment(image)
        assert answer.tiled is without.tiled is tiled
        expected = answer.probabilities if "task" in options else answer.probabilities[0]
        np.testing.assert_array_equal(answer.disagreement, expected)
        # One plane more to blend changes no label.
        np.testing.assert_array_equal(answer.labels, without.labels)
        np.testing.assert_array_equal(model.segment(image).labels, without.labels)
        assert model.segment(image).disagreement is None
        assert plain.segment(image, probabilities=True).disagreement is None


def test_too_large_and_not_to_be_tiled(open_threshold_model, picture):
    model = open_threshold_model(whole_image_max_pixels=100, tileable=False)
    assert not model.segment(picture(1, 10, 10)).tiled
    with pytest.raises(ImageTooLarge, match=r"10 x 11 = 110 pixels.*takes 100"):
        model.segment(picture(1, 10, 11))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"break_golden": True}, GoldenMismatch, "probabilities are off by"),
        ({"break_spec": "missing"}, SpecMissing, "python -m contract adopt"),
        ({"break_spec": "newer"}, SpecTooNew, "schema 99"),
        ({"break_spec": "invalid"}, SpecInvalid, "channels"),
        ({"break_interface": "labels type"}, ModelBroken, "'labels' is tensor.int32"),
        ({"break_interface": "no probabilities"}, ModelBroken, "no output 'probabilities'"),
        ({"break_interface": "fixed size"}, ModelBroken, r"'image' has shape .*64, 64"),
        (
            {"with_statistics": False, "tiles": Tiles(patch=(8, 8))},
            ModelBroken,
            "each tile would be normalised by its own",
        ),
    ],
)
def test_files_that_are_refused(tmp_path, build_threshold_model, options, error, words):
    path = build_threshold_model(tmp_path / "model.onnx", **options)
    with pytest.raises(error, match=words) as caught:
        Model.open(path, device="cpu")
    assert str(path) in str(caught.value)


def test_a_wrong_golden_sample_passes_only_unproved(tmp_path, build_threshold_model):
    path = build_threshold_model(tmp_path / "model.onnx", break_golden=True)
    assert Model.open(path, device="cpu", prove=False).spec.golden is not None


def test_memory_of_a_large_request_is_handed_back(open_threshold_model):
    model = open_threshold_model(whole_image_max_pixels=1 << 24)
    resident = _resident_mb()
    model.segment(np.zeros((1, 2048, 2048), np.float32))
    assert _resident_mb() - resident < 60  # two planes of float64 alone are 64 MB


def _resident_mb() -> float:
    try:
        with open("/proc/self/status") as status:
            (line,) = (line for line in status if line.startswith("VmRSS"))
    except OSError:
        pytest.skip("the system has no /proc")
    return int(line.split()[1]) / 1024


def test_a_file_that_changes_while_it_is_opened_is_refused(
    tmp_path, build_threshold_model, monkeypatch
):
    """Otherwise its checksum, which answers carry, could be of another file than the answers."""
    path = build_threshold_model(tmp_path / "model.onnx")
    other = build_threshold_model(tmp_path / "other.onnx", threshold=0.25)

    def open_and_replace(file, **options):
        session = open_session(file, **options)
        other.replace(path)
        return session

    monkeypatch.setattr(model_module, "open_session", open_and_replace)
    with pytest.raises(ModelBroken, match="changed while it was opened"):
        Model.open(path, device="cpu", threads=1)
    monkeypatch.undo()
    assert Model.open(path, device="cpu", threads=1).sha256
