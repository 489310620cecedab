"""All metrics of a case together: the empty policy, ignored pixels, units."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import DataError
from contract.measures import METRICS, Ruler, measure_labels
from contract.objects import object_f1
from contract.skeleton import cl_dice
from contract.surface import outline_distances, surface_dice

SHARES = {"dice", "iou", "precision", "recall", "nsd", "cldice", "object_f1"}
LENGTHS = {"hd95", "assd"}


def measured(prediction, truth, *, ruler=None, n_classes=2, ignore=None, metrics=tuple(METRICS)):
    return measure_labels(
        np.array(prediction, np.uint8), np.array(truth, np.uint8), task="multiclass",
        n_classes=n_classes, metrics=metrics, ruler=ruler, ignore=ignore,
    )  # fmt: skip


def test_every_metric_is_a_share_or_a_length():
    assert set(METRICS) == SHARES | LENGTHS
    assert {name for name, metric in METRICS.items() if metric.is_length} == LENGTHS


def test_both_empty_has_no_score():
    found = measured(np.zeros((6, 8)), np.zeros((6, 8)))[1]
    assert set(found.values) == set(METRICS)
    assert all(math.isnan(value) for value in found.values.values())
    assert not found.one_empty


@pytest.mark.parametrize("ruler", [Ruler(), Ruler(spacing_mm=(0.5, 2.0))])
@pytest.mark.parametrize("predicted", [True, False])
def test_one_side_empty_is_the_worst_and_flagged(predicted, ruler):
    some, none = np.zeros((6, 8)), np.zeros((6, 8))
    some[2, 3] = 1
    found = measured(*(some, none) if predicted else (none, some), ruler=ruler)[1]
    assert found.one_empty
    values = dict(found.values)
    if predicted:  # nothing was there to be found
        assert math.isnan(values.pop("recall"))
    steps = ruler.spacing_mm or (1.0, 1.0)
    diagonal = math.hypot(6 * steps[0], 8 * steps[1])
    assert {name: values[name] for name in LENGTHS} == {name: diagonal for name in LENGTHS}
    assert all(values[name] == 0 for name in SHARES & set(values))


def test_missing_a_structure_is_worse_than_any_distance():
    far, truth = np.zeros((6, 8)), np.zeros((6, 8))
    far[0, 0] = truth[5, 7] = 1
    missed = measured(np.zeros((6, 8)), truth)[1]
    assert measured(far, truth)[1].values["hd95"] < missed.values["hd95"]


def test_nothing_predicted_is_no_way_to_gain_precision():
    truth = np.zeros((6, 8))
    truth[1] = 1
    assert measured(np.zeros((6, 8)), truth)[1].values["precision"] == 0


labels = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(0, 3, (2, 9, 12)).astype(np.uint8)
)


@given(labels, st.sampled_from([None, (0.5, 0.5), (0.3, 1.1)]))
def test_each_class_is_what_its_masks_give(pair, spacing):
    prediction, truth = pair
    ruler = Ruler(spacing_mm=spacing, tolerance=1.3)
    steps = spacing or (1.0, 1.0)
    for index, found in enumerate(measured(prediction, truth, ruler=ruler, n_classes=3)):
        one, other = prediction == index, truth == index
        distances = outline_distances(one, other, steps)
        overlap = (one & other).sum()
        assert found.values == pytest.approx(
            {
                "dice": 2 * overlap / (one.sum() + other.sum()),
                "iou": overlap / (one | other).sum(),
                "precision": overlap / one.sum(),
                "recall": overlap / other.sum(),
                "hd95": distances.hd95,
                "assd": distances.assd,
                "nsd": surface_dice(one, other, steps, 1.3),
                "cldice": cl_dice(one, other),
                "object_f1": object_f1(one, other),
            }
        )


@given(labels, st.integers(0, 2**32 - 1), st.sampled_from(["multiclass", "multilabel"]))
def test_what_is_predicted_on_ignored_pixels_counts_for_nothing(pair, seed, task):
    prediction, truth = pair if task == "multiclass" else (pair > 0).astype(np.uint8)
    random = np.random.default_rng(seed)
    ignored = random.random(truth.shape) < 0.3
    truth = np.where(ignored, 255, truth).astype(np.uint8)
    other = np.where(ignored, random.integers(0, 2, truth.shape), prediction).astype(np.uint8)
    options = {"task": task, "n_classes": 3, "metrics": tuple(METRICS), "ignore": 255}
    if task == "multilabel":
        truth, prediction, other = (np.moveaxis(x.reshape(9, 4, 3), 2, 0) for x in
                                    (truth, prediction, other))  # fmt: skip
    for one, two in zip(
        measure_labels(prediction, truth, **options),
        measure_labels(other, truth, **options),
        strict=True,
    ):
        assert one.counts == two.counts
        np.testing.assert_equal(dict(one.values), dict(two.values))


def test_all_ignored_is_empty():
    found = measured(np.ones((4, 4)), np.full((4, 4), 9), ignore=9)
    assert all(math.isnan(v) for score in found for v in score.values.values())


def test_multilabel_classes_are_measured_each_by_itself():
    truth = np.zeros((2, 8, 9), np.uint8)
    truth[0, 2:6, 2:6] = truth[1, 2:4, 2:8] = 1
    prediction = truth.copy()
    prediction[1, 2:4, 7] = 0
    first, second = measure_labels(
        prediction, truth, task="multilabel", n_classes=2, metrics=("dice", "hd95")
    )
    assert first.values == {"dice": 1.0, "hd95": 0.0}
    assert second.values["dice"] == pytest.approx(20 / 22)
    assert 0 < second.values["hd95"] <= 1


def test_only_what_was_asked_for_is_computed():
    none, chosen = measured([[0, 1]], [[0, 1]], metrics={1: ("iou", "dice")})
    assert none.values == {}
    assert none.counts.truth_px == 1
    assert list(chosen.values) == ["iou", "dice"]


def test_units_and_tolerance():
    assert (Ruler().unit, Ruler().nsd_tolerance) == ("px", 2.0)
    fine = Ruler(spacing_mm=(0.25, 0.5))
    assert (fine.unit, fine.nsd_tolerance) == ("mm", 1.0)
    assert Ruler(tolerance=0.0).nsd_tolerance == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"spacing_mm": (0.0, 1.0)}, "above 0"),
        ({"spacing_mm": (1.0, math.nan)}, "above 0"),
        ({"tolerance": -1.0}, "0 or more"),
        ({"tolerance": math.inf}, "0 or more"),
    ],
)
def test_rulers_that_measure_nothing(options, words):
    with pytest.raises(DataError, match=words):
        Ruler(**options)


def test_a_spacing_of_other_axes_is_refused():
    with pytest.raises(DataError, match=r"3 numbers.*2 axes"):
        measured([[0, 1]], [[1, 1]], ruler=Ruler(spacing_mm=(1.0, 1.0, 1.0)))
