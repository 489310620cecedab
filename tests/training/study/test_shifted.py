"""What a study says of shifted images, from cases that the test chose."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.study.building import build_study
from training.study.analyse import Analysis, analyse
from training.study.record import read_record
from training.study.shifted import shift_answer, shift_effects, shift_table, shifted_scores

CASES = 12
STUDY: dict[str, Any] = {
    "name": "mine",
    "question": "Do skips hurt where images are shifted?",
    "datasets": {"a": {"root": "a"}},
    "arms": {"all": {}, "none": {"net.long_skips": "none"}},
    "reference": "all",
    "steps": 10,
    "seeds": [0, 1],
    "learning_rates": [0.01],
    "probes": ["shift"],
}


def write_shift(folder: Path, lost: dict[str, float]) -> None:
    """Dice of each case: 0.9 less ``lost`` of the kind times the strength, less its number."""
    rows = [
        {
            **{"net": "x", "kind": kind, "strength": strength, "stem": f"case{case}"},
            **{"class_name": name, "dice": 0.9 - by * strength - 0.001 * case - change},
        }
        for kind, by in lost.items()
        for strength in (0.0, 0.5, 1.0)
        for case in range(CASES)
        for name, change in (("cell", 0.0), ("core", 0.1))
    ]
    (folder / "probes" / "shift").mkdir(parents=True)
    with (folder / "probes" / "shift" / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Under texture ``none`` keeps more, under noise both lose the same."""
    scores = {("a", arm, seed): [[0.9]] * CASES for arm in STUDY["arms"] for seed in (0, 1)}
    root = build_study(tmp_path, STUDY, scores)
    for arm, texture in (("all", 0.6), ("none", 0.4)):
        for seed in (0, 1):
            write_shift(
                root / "cells" / "a" / arm / f"seed-{seed}",
                {"texture": texture, "noise": 0.2 + 0.01 * (seed == (arm == "all"))},
            )
    return root


def read(root: Path) -> Analysis:
    return analyse(read_record(root))


def test_a_case_is_its_mean_over_classes_and_strengths_above_0(built: Path) -> None:
    scores = shifted_scores(read(built), "a")
    assert list(scores) == ["texture", "noise"]
    # Strengths 0.5 and 1, classes at 0.9 and 0.8: 0.85 - 0.6 * 0.75.
    found = dict(zip(scores["texture"].stems, scores["texture"].values["all", 0], strict=True))
    assert found["case0"] == pytest.approx(0.4)
    assert found["case7"] == pytest.approx(0.4 - 0.007)


def test_what_is_told_apart_is_said_and_what_is_not(built: Path) -> None:
    analysis = read(built)
    effects = {effect.kind: effect for effect in shift_effects(analysis, "a")}
    assert effects["texture"].mean == pytest.approx(0.15)
    assert effects["texture"].told
    assert effects["texture"].family == 2
    assert not effects["noise"].told
    text = shift_answer(analysis)
    assert "under texture “none” is better than “all” by 0.150 Dice (" in text
    assert text.endswith("Under noise no arm is told apart.")
    head, rows = shift_table(analysis, "a")
    assert head == ("arm", "Dice under texture", "Dice under noise")
    assert rows[0][:2] == ("all", "0.395")
    assert rows[1][1].startswith("0.54")
    assert "(+0.150, " in rows[1][1]


def test_tests_of_all_shifts_are_corrected_together(built: Path) -> None:
    effects = shift_effects(read(built), "a")
    raw = np.array([effect.test.p_value for effect in effects if effect.test is not None])
    texture = next(effect for effect in effects if effect.kind == "texture")
    assert texture.p_holm == pytest.approx(2 * raw.min())


def test_a_study_that_did_not_look_says_nothing(tmp_path: Path) -> None:
    scores = {("a", arm, seed): [[0.9]] * CASES for arm in STUDY["arms"] for seed in (0, 1)}
    analysis = read(build_study(tmp_path, STUDY, scores))
    assert shift_answer(analysis) == ""
    assert shift_table(analysis, "a")[1] == []
