"""How unsure a model is of an image: closed forms, and whether it points to the bad ones."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from contract.model import Model
from training.__main__ import main
from training.data.folder import open_folder
from training.score.cases import score_cases
from training.score.uncertainty import correlation_with_error, mean_entropy_nats, mean_nats


@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_entropy_as_scipy(classes: int, seed: int) -> None:
    p = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), (5, 7)).astype(np.float32)
    everywhere = np.ones((5, 7), np.bool_)
    found = mean_entropy_nats(np.moveaxis(p, -1, 0), "multiclass", everywhere)
    assert found == pytest.approx(entropy(p.astype(np.float64), axis=-1).mean(), abs=1e-5)


def test_overlapping_classes_have_an_entropy_each() -> None:
    p = np.array([0.5, 1.0], np.float32).reshape(2, 1, 1)
    everywhere = np.ones((2, 1, 1), np.bool_)
    assert mean_entropy_nats(p, "multilabel", everywhere) == pytest.approx(math.log(2) / 2)


def test_ignored_pixels_do_not_count() -> None:
    nats = np.array([[1.0, 3.0], [5.0, 100.0]], np.float32)
    assert mean_nats(nats, np.array([[True, True], [True, False]])) == 3
    assert math.isnan(mean_nats(nats, np.zeros((2, 2), np.bool_)))


def test_correlation_is_of_ranks_and_with_the_error() -> None:
    dice = [0.9, 0.8, 0.5, 0.2, math.nan, 0.1]
    found = correlation_with_error([0.01, 0.02, 0.03, 4.0, 9.0, 5.0], dice)
    assert (found.rho, found.cases) == (pytest.approx(1), 5)
    assert correlation_with_error([5, 4, 3, 2, 1, 0.5], dice).rho == pytest.approx(-1)


@pytest.mark.parametrize("dice", [[0.1, 0.2, 0.3, 0.4], [0.5] * 6])
def test_few_or_equal_images_tell_nothing(dice: list[float]) -> None:
    assert correlation_with_error(np.arange(len(dice)), dice).rho is None


@pytest.mark.parametrize("members", [True, False])
def test_evaluate_writes_it_by_image_and_says_whether_it_tells(
    tmp_path: Path,
    build_threshold_model: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    members: bool,
) -> None:
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for number in range(6):
        mask = np.zeros((24, 30), np.uint8)
        mask[6:16, 5 : 12 + number] = 1
        noise = random.integers(0, 1 + 25 * number, mask.shape)
        cv2.imwrite(str(tmp_path / f"data/images/{number}.png"), 30 + 100 * mask + noise)
        cv2.imwrite(str(tmp_path / f"data/masks/{number}.png"), mask)
    file = build_threshold_model(tmp_path / "model.onnx", with_disagreement=members)
    out = tmp_path / "scores"
    command = ["evaluate", str(file), f"--data.root={tmp_path / 'data'}", f"--out={out}"]
    assert main([*command, "--device=cpu"]) == 0
    with (out / "cases.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    model, dataset = Model.open(file, device="cpu"), open_folder(tmp_path / "data")
    stems = [case.stem for case in dataset.cases]
    # Nobody asked.
    assert all(math.isnan(case.entropy_nats) for case in score_cases(model, dataset, stems))
    for row, case in zip(rows, score_cases(model, dataset, stems, uncertainty=True), strict=True):
        image = cv2.imread(str(case.case.image), cv2.IMREAD_UNCHANGED)[None].astype(np.float32)
        p = model.segment(image, probabilities=True).probabilities
        assert p is not None
        expected = entropy(p.astype(np.float64), axis=0).mean()
        assert float(row["entropy_nats"]) == pytest.approx(expected, abs=1e-6)
        if members:
            assert float(row["disagreement_nats"]) == pytest.approx(p[0].mean(), abs=1e-6)
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["uncertainty"]) == ({"entropy", "disagreement"} if members else {"entropy"})
    rho = correlation_with_error(
        [float(row["entropy_nats"]) for row in rows], [float(row["dice"]) for row in rows]
    ).rho
    assert summary["uncertainty"]["entropy"]["spearman_with_error"] == pytest.approx(rho, abs=0.1)
    said = capsys.readouterr().out
    assert ("disagreement" in said) is members
    assert f"{summary['uncertainty']['entropy']['spearman_with_error']:+.2f}" in said
    assert ("disagreement_nats" in rows[0]) is members
    # The share of right labels against the confidence, over all pixels.
    assert 0 < summary["calibration_error"] < 1
