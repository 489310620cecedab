"""What a run logged, whatever state its files are in."""

import math
from pathlib import Path

import pytest

from training.report.history import History, Series, read_history

HEAD = "epoch,lr-AdamW/pg1,step,train/loss_epoch,train/loss_step,val/dice,val/dice.cell\n"


def test_series_hold_steps_and_values_in_the_order_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(
        HEAD + ",0.1,0,,,,\n" + "0,,4,,0.9,,\n" + "0,,4,,,0.5,0.5\n" + "0,,4,0.8,,,\n"
        "1,,9,,0.4,,\n" + "1,,9,0.3,,,\n"
    )
    history = read_history(tmp_path)
    assert history.get("train/loss_epoch") == Series((5, 10), (0.8, 0.3))
    assert history.get("val/dice") == Series((5,), (0.5,))
    assert history.named("val/dice.") == {"cell": Series((5,), (0.5,))}
    assert history.learning_rate == Series((1,), (0.1,))
    assert (history.epochs, history.steps_per_epoch) == (2, 5.0)
    assert history.in_epochs(history.get("train/loss_epoch")) == [1.0, 2.0]
    assert history.first_not_finite is None


def test_a_run_that_logged_nothing_has_an_empty_history(tmp_path: Path) -> None:
    history = read_history(tmp_path)
    assert history == History({}, 0, None)
    assert not history.get("val/dice")
    assert history.get("val/dice").last is None


def test_a_resumed_part_replaces_what_it_did_again(tmp_path: Path) -> None:
    (tmp_path / "metrics-1.csv").write_text(
        HEAD + "0,,4,0.8,,,\n" + "1,,9,0.7,,,\n" + "2,,12,,0.66,,\n"
    )
    (tmp_path / "metrics.csv").write_text(HEAD + "2,,10,,0.6,,\n" + "2,,14,0.5,,,\n")
    history = read_history(tmp_path)
    assert history.get("train/loss_epoch") == Series((5, 10, 15), (0.8, 0.7, 0.5))
    assert history.get("train/loss_step") == Series((11,), (0.6,))


@pytest.mark.parametrize("torn", ["1,,9", "1,,9,0.", "1,,9,0.7,,0.5,-", "1,,"])
def test_a_line_cut_by_a_kill_does_no_harm(tmp_path: Path, torn: str) -> None:
    (tmp_path / "metrics.csv").write_text(HEAD + "0,,4,0.8,,,\n" + torn)
    history = read_history(tmp_path)
    assert history.get("train/loss_epoch").values[0] == 0.8
    assert history.epochs >= 1


def test_the_first_loss_that_is_no_number_is_told(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(
        HEAD + "0,,4,,0.9,,\n" + "1,,9,,nan,,\n" + "2,,14,,inf,,\n"
    )
    history = read_history(tmp_path)
    assert history.first_not_finite == 10
    assert math.isnan(history.get("train/loss_step").values[1])


@pytest.mark.parametrize("mark", [".", "/"])
def test_dice_of_classes_is_found_in_runs_of_any_version(tmp_path: Path, mark: str) -> None:
    (tmp_path / "metrics.csv").write_text(f"epoch,step,val/dice,val/dice{mark}cell\n0,4,0.6,0.7\n")
    assert read_history(tmp_path).dice_by_class == {"cell": Series((5,), (0.7,))}
