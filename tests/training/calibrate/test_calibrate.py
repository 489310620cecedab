"""Reliability, temperature and thresholds, against closed forms and brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from contract.decision import Task, labels_of
from contract.errors import DataError
from training.calibrate.fit_temperature import fit_temperature
from training.calibrate.observe import Observed, pick, probabilities, reliability_at
from training.calibrate.reliability import BINS, NOTHING, reliability_of
from training.calibrate.tune_thresholds import GRID, mean_dice, tune_thresholds


def drawn_from(logits: NDArray[np.float32], task: Task, seed: int) -> Observed:
    """Return pixels whose truth is drawn from what softmax (sigmoid) of the logits says."""
    p = probabilities(logits, task)
    chance = np.random.default_rng(seed).uniform(size=logits.shape[1])
    if task == "multilabel":
        truth = (np.random.default_rng(seed).uniform(size=logits.shape) < p).astype(np.uint8)
    else:
        truth = (chance > p.cumsum(axis=0)[:-1]).sum(axis=0).astype(np.uint8)
    return Observed(logits=logits, truth=truth, counted=np.ones(truth.shape, bool))


def logits_of(seed: int, classes: int, pixels: int, spread: float = 2.0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, spread, (classes, pixels)).astype(np.float32)


def test_ece_by_hand() -> None:
    """Four pixels in two bins: 0.9 right, 0.9 wrong, 0.62 right, 0.62 right."""
    first = np.array([0.9, 0.9, 0.62, 0.62])
    found = reliability_of(
        np.stack([first, 1 - first]),
        np.array([0, 1, 0, 0], np.uint8),
        np.ones(4, bool),
        "multiclass",
    )
    assert found.ece == pytest.approx(2 / 4 * abs(0.5 - 0.9) + 2 / 4 * abs(1 - 0.62))
    assert found.mean_nll == pytest.approx(-(np.log(0.9) + np.log(0.1) + 2 * np.log(0.62)) / 4)
    assert found.pixels[int(0.9 * BINS)] == found.pixels[int(0.62 * BINS)] == 2


def test_certain_and_right_is_perfect_and_certain_and_wrong_is_not() -> None:
    p = np.array([[1.0, 1.0], [0.0, 0.0]])
    counted = np.ones(2, bool)
    assert reliability_of(p, np.array([0, 0], np.uint8), counted, "multiclass").ece == 0
    assert reliability_of(p, np.array([1, 1], np.uint8), counted, "multiclass").ece == 1


def test_ignored_pixels_count_nowhere() -> None:
    p = np.array([[0.7, 0.2], [0.3, 0.8]])
    truth = np.array([0, 255], np.uint8)
    found = reliability_of(p, truth, truth != 255, "multiclass")
    assert found.total == 1
    assert found.ece == pytest.approx(0.3)
    assert np.isnan(NOTHING.ece)
    assert found + NOTHING == found


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_made_the_truth_is_found(task: Task, true_temperature: float) -> None:
    honest = logits_of(1, 3, 60_000)
    seen = drawn_from(honest, task, seed=2)
    bent = [Observed(seen.logits * true_temperature, seen.truth, seen.counted)]
    found = fit_temperature(bent, task)
    assert found == pytest.approx(true_temperature, rel=0.03)
    before, after = reliability_at(bent, 1.0, task), reliability_at(bent, found, task)
    assert after.mean_nll <= before.mean_nll
    assert after.ece < 0.01
    if true_temperature != 1.0:
        assert before.ece > 3 * after.ece


def test_a_temperature_needs_a_labelled_pixel() -> None:
    nothing = Observed(np.zeros((2, 3), np.float32), np.full(3, 255, np.uint8), np.zeros(3, bool))
    with pytest.raises(DataError, match="no labelled pixel"):
        fit_temperature([nothing], "multiclass")


@pytest.mark.parametrize(("task", "classes"), [("multiclass", 2), ("multilabel", 2)])
def test_one_free_threshold_is_as_good_as_brute_force(task: Task, classes: int) -> None:
    cases = []
    for seed in range(4):
        seen = drawn_from(logits_of(seed, classes, 400), task, seed)
        # A net that sees too little of each class: its logits are shifted down.
        shift = np.array([0.0, 1.5] if task == "multiclass" else [1.0, 2.0])[:, None]
        shifted = (seen.logits - shift).astype(np.float32)
        cases.append(Observed(shifted, seen.truth, seen.counted))
    thresholds, before, after = tune_thresholds(cases, task)
    assert thresholds is not None
    assert after > before + 0.01

    def dice(thresholds_prob: tuple[float, ...]) -> float:
        rows = []
        for one in cases:
            p = probabilities(one.logits, task).astype(np.float32)[:, :, None]
            labels = labels_of(p, task, thresholds_prob)[..., 0]
            said, true = (
                (labels > 0, one.truth > 0)
                if task == "multilabel"
                else ((labels == 1)[None], (one.truth == 1)[None])
            )
            rows.append(2 * (said & true).sum(axis=1) / (said.sum(axis=1) + true.sum(axis=1)))
        return float(np.mean(rows, axis=0).mean())

    assert dice(thresholds) == pytest.approx(after, abs=1e-9)
    grid = 1 / (1 + np.exp(-GRID))
    if task == "multiclass":
        assert after >= max(dice((1 - t, t)) for t in grid) - 2e-4
    else:
        best = max(dice((a, b)) for a in grid[::3] for b in grid[::3])
        assert after >= best - 4e-4


def test_three_classes_gain_and_sum_to_one() -> None:
    shift = np.array([0.0, 1.2, -0.8], np.float32)[:, None]
    cases = []
    for seed in range(3):
        seen = drawn_from(logits_of(seed, 3, 2000), "multiclass", seed)
        cases.append(Observed(seen.logits - shift, seen.truth, seen.counted))
    thresholds, before, after = tune_thresholds(cases, "multiclass", temperature=1.3)
    assert thresholds is not None
    assert sum(thresholds) == pytest.approx(1, abs=1e-5)
    assert after > before + 0.01
    rows = []
    for one in cases:
        p = probabilities(one.logits / 1.3, "multiclass").astype(np.float32)[:, :, None]
        labels = labels_of(p, "multiclass", thresholds)[:, 0]
        rows.append(
            [
                2
                * ((labels == k) & (one.truth == k)).sum()
                / ((labels == k).sum() + (one.truth == k).sum())
                for k in (1, 2)
            ]
        )
    assert float(np.mean(rows)) == pytest.approx(after, abs=1e-4)


def test_thresholds_without_a_gain_are_left_alone() -> None:
    truth = (np.arange(300) % 2).astype(np.uint8)
    sure = np.where(np.stack([truth == 0, truth == 1]), 9.0, -9.0).astype(np.float32)
    perfect = [Observed(sure, truth, np.ones(300, bool))]
    assert tune_thresholds(perfect, "multiclass") == (None, 1.0, 1.0)


@given(seed=st.integers(0, 500))
def test_mean_dice_leaves_empty_cases_out(seed: int) -> None:
    generator = np.random.default_rng(seed)
    table = generator.uniform(size=(5, 3))
    table[generator.uniform(size=table.shape) < 0.4] = np.nan
    columns = [column[~np.isnan(column)] for column in table.T]
    scored = [column.mean() for column in columns if column.size]
    if scored:
        assert float(mean_dice(table)) == pytest.approx(np.mean(scored))
    else:
        assert np.isnan(mean_dice(table))


def test_a_large_image_gives_a_draw_of_its_pixels_without_repeats() -> None:
    logits = np.arange(2 * 30 * 40, dtype=np.float32).reshape(2, 30, 40)
    mask = (np.arange(1200).reshape(30, 40) % 2).astype(np.uint8)
    few = pick(logits, mask, seed=0, pixels=100)
    assert few.logits.shape == (2, 100)
    assert len(set(few.logits[0].tolist())) == 100
    assert np.array_equal(few.truth, few.logits[0].astype(int) % 2)
    assert pick(logits, mask, seed=0).truth.size == 1200
