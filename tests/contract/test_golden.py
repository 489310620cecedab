import functools
import hashlib
from types import SimpleNamespace

import numpy as np
import pytest

from contract.errors import GoldenMismatch
from contract.golden import OUTPUTS, check_golden, golden_input, make_golden
from contract.model import Model

FULL = (0.0, 255.0)


def test_the_picture_is_the_same_everywhere():
    """A changed picture would turn every shipped model into a GoldenMismatch."""
    image = golden_input(7, (2, 33, 47), FULL)
    assert hashlib.sha256(image.astype("<f4").tobytes()).hexdigest()[:16] == "3a30ac2643af8aff"


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 50), (2, 64, 48)])
def test_the_picture_has_whole_intensities_in_range(shape):
    image = golden_input(0, shape, (-1000.0, 3000.0))
    assert (image.dtype, image.shape) == (np.float32, shape)
    assert np.array_equal(image, np.rint(image))
    assert -1000 <= image.min() <= image.max() <= 3000


def test_a_narrow_range_keeps_its_detail():
    image = golden_input(0, (1, 64, 64), (0.0, 1.0))
    assert 0 <= image.min() < 0.25
    assert 0.75 < image.max() <= 1
    assert len(np.unique(image)) > 200


def test_the_picture_has_blobs_and_noise():
    image = golden_input(0, (1, 128, 128), FULL)[0]
    coarse = image.reshape(16, 8, 16, 8).mean((1, 3))
    assert coarse.std() > 30  # structure beyond single pixels
    assert (np.diff(image, axis=1) != 0).mean() > 0.3  # and noise on them


def test_seeds_and_channels_differ():
    first, second = golden_input(0, (2, 32, 32), FULL), golden_input(1, (2, 32, 32), FULL)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first[0], first[1])


@pytest.fixture
def model(open_threshold_model) -> Model:
    return open_threshold_model(classes=("background", "a", "b"))


def altered(model: Model, change):
    """The model's golden sample, checked on answers that `change` has altered in place."""

    def run(image, *, outputs):
        answer = model.run(image, outputs=outputs)
        change(answer)
        return answer

    return SimpleNamespace(
        path=model.path,
        spec=model.spec,
        provider=model.provider,
        precision=model.precision,
        run=run,
    )


def test_the_stored_answer_holds_both_classes(model):
    golden = model.spec.golden
    image = golden_input(golden.seed, golden.shape_chw, golden.intensity_range)
    assert set(np.unique(model.segment(image).labels)) == {0, 1, 2}
    check_golden(model)


@pytest.mark.parametrize("off", [3e-3, np.nan])
def test_probabilities_that_are_off(model, off):
    def change(answer):
        answer["probabilities"][0, 1, 5, 6] += off

    with pytest.raises(GoldenMismatch, match="probabilities are off by"):
        check_golden(altered(model, change))


def test_probabilities_within_tolerance(model):
    def change(answer):
        answer["probabilities"] += 1e-3

    check_golden(altered(model, change))


def test_labels_may_differ_only_at_ties(model):
    golden = model.spec.golden
    image = golden_input(golden.seed, golden.shape_chw, golden.intensity_range)
    probabilities = np.sort(model.run(image[None], outputs=OUTPUTS)["probabilities"][0], axis=0)
    margin = probabilities[-1] - probabilities[-2]

    def flip(place):
        def change(answer):
            answer["labels"][0][place] = (answer["labels"][0][place] + 1) % 3

        return change

    clearest = np.unravel_index(margin.argmax(), margin.shape)
    with pytest.raises(GoldenMismatch, match="1 of the golden sample's 1920 labels"):
        check_golden(altered(model, flip(clearest)))
    closest = np.unravel_index(margin.argmin(), margin.shape)
    assert margin[closest] < 4e-3
    check_golden(altered(model, flip(closest)))


def test_an_answer_of_another_size(model):
    def change(answer):
        answer["probabilities"] = answer["probabilities"][:, :, :-1]

    with pytest.raises(GoldenMismatch, match="does not unpack"):
        check_golden(altered(model, change))


def test_no_golden_sample(model):
    bare = altered(model, lambda answer: None)
    bare.spec = model.spec.model_copy(update={"golden": None})
    with pytest.raises(GoldenMismatch, match="no golden sample"):
        check_golden(bare)


def test_no_tolerance_for_the_precision(model):
    other = altered(model, lambda answer: None)
    golden = model.spec.golden
    tolerances = {"fp16": golden.tolerances["fp16"]}
    other.spec = model.spec.model_copy(
        update={"golden": golden.model_copy(update={"tolerances": tolerances})}
    )
    with pytest.raises(GoldenMismatch, match=r"no tolerance for fp32, only for \['fp16'\]"):
        check_golden(other)


def test_making_it_again_gives_the_same_bytes(model):
    run = functools.partial(model.run, outputs=OUTPUTS)
    assert make_golden(run, 7, (1, 48, 40), FULL) == model.spec.golden


def test_multilabel(open_threshold_model):
    model = open_threshold_model(task="multilabel", classes=("a", "b"))
    check_golden(model)

    def change(answer):
        answer["labels"] = 1 - answer["labels"]

    with pytest.raises(GoldenMismatch, match="labels differ"):
        check_golden(altered(model, change))
