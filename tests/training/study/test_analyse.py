"""A study's tables: what is averaged, what is corrected over what, what failed runs do."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.study.building import build_study
from training.study.analyse import analyse, bad_runs, factor_contrasts, write_tables
from training.study.config import StudyConfig, StudyError
from training.study.record import MEAN_OF_CLASSES, read_record

NAN = math.nan
THREE: dict[str, Any] = {
    "name": "three",
    "question": "Which?",
    "datasets": {"a": {}},
    "arms": {"all": {"net.x": 1}, "none": {"net.x": 2}, "add": {"net.x": 3}},
    "reference": "all",
    "steps": 10,
    "seeds": [0, 1, 2],
    "metrics": [],
}


def scores_of(**arms: list[float]) -> dict[tuple[str, str, int], list[list[float]]]:
    """Return the same scores in each of three seeds, one class."""
    return {
        ("a", arm, seed): [[v] for v in values] for arm, values in arms.items() for seed in range(3)
    }


def test_the_mean_is_over_cases_of_the_mean_over_seeds(tmp_path: Path) -> None:
    scores = {
        ("a", "all", 0): [[0.8], [0.6]],
        ("a", "all", 1): [[0.6], [NAN]],
        ("a", "all", 2): [[0.7], [NAN]],
    }
    analysis = analyse(read_record(build_study(tmp_path, THREE, scores)))
    estimate = analysis.estimate("a", "dice", "cell", "all")
    assert estimate is not None
    assert estimate.summary.mean == pytest.approx((0.7 + 0.6) / 2)
    assert estimate.by_seed == pytest.approx({0: 0.7, 1: 0.6, 2: 0.7})
    assert estimate.sigma == pytest.approx(np.std([0.7, 0.6, 0.7], ddof=1))
    assert analysis.estimate("a", "dice", "cell", "none") is None
    assert not analysis.record.finished


def test_classes_are_averaged_within_a_case_and_corrected_by_themselves(
    tmp_path: Path,
) -> None:
    scores = {
        ("a", arm, seed): [[value, value - 0.1], [value, NAN]] * 4
        for arm, value in (("all", 0.8), ("none", 0.7), ("add", 0.8))
        for seed in range(3)
    }
    analysis = analyse(
        read_record(build_study(tmp_path, THREE, scores, classes=("cell", "nucleus")))
    )
    overall = analysis.estimate("a", "dice", MEAN_OF_CLASSES, "all")
    assert overall is not None
    assert overall.summary.mean == pytest.approx((0.75 + 0.8) / 2)
    none, add = analysis.effects_of("a", "dice", MEAN_OF_CLASSES)
    assert none.mean == pytest.approx(-0.1)
    assert none.family == 2
    assert none.p_holm == pytest.approx(2 * 2**-7)
    assert none.told
    assert add.mean == pytest.approx(0.0)
    assert not add.told
    # Two arms on two classes.
    assert {e.family for e in analysis.effects_of("a", "dice", "nucleus")} == {4}


def test_collapsed_runs_count_with_their_zeros_and_failed_ones_are_missing(
    tmp_path: Path,
) -> None:
    scores = scores_of(all=[0.8, 0.9], none=[0.6, 0.6])
    scores["a", "none", 1] = [[0.0], [0.0]]
    del scores["a", "none", 2]
    root = build_study(
        tmp_path, THREE, scores, states={("a", "none", 1): "collapsed", ("a", "none", 2): "failed"}
    )
    analysis = analyse(read_record(root))
    estimate = analysis.estimate("a", "dice", "cell", "none")
    assert estimate is not None
    assert estimate.summary.mean == pytest.approx(0.3)
    assert list(estimate.by_seed) == [0, 1]
    assert analysis.states("a", "none") == {"done": 1, "collapsed": 1, "failed": 1}
    assert [run.state for run in bad_runs(analysis.record)] == ["collapsed", "failed"]
    (none,) = analysis.effects_of("a", "dice", "cell")
    assert none.seeds == 2


FOUR: dict[str, Any] = {
    "name": "four",
    "question": "Which?",
    "datasets": {"a": {}},
    "factors": {
        "short": {"short": {"net.s": 1}, "no-short": {"net.s": 0}},
        "long": {"long": {"net.l": 1}, "no-long": {"net.l": 0}},
    },
    "reference": "short+long",
    "steps": 10,
    "metrics": [],
}


def test_main_effects_and_interaction(tmp_path: Path) -> None:
    corner = {
        "short+long": 0.9,
        "short+no-long": 0.8,
        "no-short+long": 0.7,
        "no-short+no-long": 0.2,
    }
    scores = {("a", arm, s): [[v], [v]] for arm, v in corner.items() for s in range(3)}
    analysis = analyse(read_record(build_study(tmp_path, FOUR, scores)))
    found = {
        e.contrast.name: e.mean for e in analysis.effects_of("a", "dice", "cell", factors=True)
    }
    assert found == pytest.approx(
        {
            "no-short": (0.7 + 0.2) / 2 - (0.9 + 0.8) / 2,
            "no-long": (0.8 + 0.2) / 2 - (0.9 + 0.7) / 2,
            "no-short × no-long": (0.2 - 0.7) - (0.8 - 0.9),  # noqa: RUF001
        }
    )
    assert len(analysis.effects_of("a", "dice", "cell")) == 3


def test_contrasts_of_three_factors_add_up_to_nothing() -> None:
    levels = {f: {f"{f}{i}": {f"net.{f}": i} for i in range(3)} for f in "pqr"}
    config = StudyConfig(
        name="n", question="?", factors=levels, reference="p1+q0+r2", steps=1, metrics=()
    )
    contrasts = factor_contrasts(config)
    assert sum(c.role == "main" for c in contrasts) == 3 * 2
    assert sum(c.role == "interaction" for c in contrasts) == 3 * 4
    for contrast in contrasts:
        assert sum(contrast.weights.values()) == pytest.approx(0)
        assert sum(abs(w) for w in contrast.weights.values()) == pytest.approx(
            2 if contrast.role == "main" else 4
        )


def test_a_rate_at_the_edge_of_those_tried_is_marked(tmp_path: Path) -> None:
    study = THREE | {"learning_rates": [0.001, 0.003, 0.009]}
    sweep = {
        ("a", "all", 0.001): 0.5,
        ("a", "all", 0.003): 0.6,
        ("a", "all", 0.009): 0.4,
        ("a", "none", 0.001): 0.5,
        ("a", "none", 0.003): 0.6,
        ("a", "none", 0.009): 0.7,
    }
    analysis = analyse(read_record(build_study(tmp_path, study, {}, sweep=sweep)))
    assert analysis.rates["a", "all"].chosen == 0.003
    assert not analysis.rates["a", "all"].edge
    assert analysis.rates["a", "none"].chosen == 0.009
    assert analysis.rates["a", "none"].edge
    assert not analysis.rates["a", "add"].edge  # nothing was tried yet


def test_tables_hold_what_was_analysed(tmp_path: Path) -> None:
    analysis = analyse(
        read_record(
            build_study(tmp_path, THREE, scores_of(all=[0.8, 0.9, 0.7], none=[0.6, 0.8, 0.6]))
        )
    )
    write_tables(analysis, tmp_path)
    with (tmp_path / "tests.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "dice"]
    assert [(row["name"], row["against"], row["told"]) for row in rows] == [
        ("none", "all", "False")
    ]
    assert float(rows[0]["difference"]) == pytest.approx(-0.4 / 3)
    assert float(rows[0]["least_p"]) == 0.25
    with (tmp_path / "arms.csv").open(newline="") as file:
        arms = [row for row in csv.DictReader(file) if row["metric"] == "dice"]
    assert [row["arm"] for row in arms] == ["all", "none"]


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"holds no study\.yaml"):
        read_record(tmp_path)
