import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.study.cells import Cell, Outcome, write_outcome
from training.study.remaining import Remaining, clock, remaining
from training.study.tune import at_edge, best_rate


def outcome(**changed: Any) -> Outcome:
    fields: dict[str, Any] = {
        **{"dice": 0.5, "loss": 0.4, "error": 0.1, "collapsed": False, "diverged": False},
        **{"parameters": 1, "macs": 1, "macs_hw": (8, 8), "train_s": 1.0, "cell_s": 10.0},
        **{"device": "cpu", "figures": {}},
    }
    return Outcome(**{**fields, **changed})


def test_the_highest_dice_wins_and_the_lowest_loss_on_a_tie() -> None:
    assert best_rate({0.1: outcome(dice=0.5), 0.2: outcome(dice=0.6)}) == 0.2
    tie = {0.1: outcome(dice=0.0, loss=0.3), 0.2: outcome(dice=0.0, loss=0.2)}
    assert best_rate(tie) == 0.2


def test_a_diverged_try_is_never_chosen() -> None:
    tries = {0.1: outcome(dice=0.1), 0.2: outcome(dice=0.9, diverged=True)}
    assert best_rate(tries) == 0.1
    assert best_rate({0.2: tries[0.2]}) is None
    assert best_rate({}) is None


@given(st.dictionaries(st.floats(1e-5, 1), st.floats(0, 1), min_size=1))
def test_no_try_is_better_than_the_chosen_one(dice: dict[float, float]) -> None:
    best = best_rate({rate: outcome(dice=value) for rate, value in dice.items()})
    assert best is not None
    assert dice[best] == max(dice.values())


def test_a_loss_that_is_no_number_is_the_worst() -> None:
    tries = {0.1: outcome(dice=0.0, loss=math.nan), 0.2: outcome(dice=0.0, loss=9.0)}
    assert best_rate(tries) == 0.2


def test_the_edge_of_the_rates_is_where_a_better_may_lie_beyond() -> None:
    assert at_edge(0.1, (0.1, 0.2, 0.3))
    assert not at_edge(0.2, (0.1, 0.2, 0.3))
    assert not at_edge(0.1, (0.1,))


def cell(arm: str, *, steps: int = 10, dataset: str = "ph", seed: int = 0) -> Cell:
    return Cell("cells", dataset, arm, seed, 0.1, steps, {}, "test", ("dice",))


def test_time_left_is_that_of_the_same_arm(tmp_path: Any) -> None:
    done = cell("slow")
    folder = done.folder(tmp_path)
    folder.mkdir(parents=True)
    write_outcome(folder, outcome(cell_s=20.0))

    left = remaining([done], [cell("slow", steps=30, seed=1)], root=tmp_path, jobs=2)

    assert left == Remaining(30.0, 30.0)  # 2 s a step, 30 steps, two at a time


def test_an_arm_without_a_time_lies_between_the_others(tmp_path: Any) -> None:
    for arm, seconds in (("fast", 10.0), ("slow", 40.0)):
        folder = cell(arm).folder(tmp_path)
        folder.mkdir(parents=True)
        write_outcome(folder, outcome(cell_s=seconds))

    left = remaining([cell("fast"), cell("slow")], [cell("new")], root=tmp_path, jobs=1)

    assert left == Remaining(10.0, 40.0)
    assert str(left) == "10 s to 40 s left"


def test_before_anything_is_timed_nothing_is_promised(tmp_path: Any) -> None:
    assert remaining([], [cell("new")], root=tmp_path, jobs=1) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(40, "40 s"), (600, "10 min"), (11100, "3 h 05 min")]
)
def test_a_time_is_said_in_words(seconds: float, text: str) -> None:
    assert clock(seconds) == text
