import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.fit.judge_steps import STILL_RATIO, LayerStep, StepJudge, Verdict

LAYERS = 12
SAMPLED = (0, 1, 2, 3, 4, *range(10, 200, 10))


def layer(ratio: float, weight: float = 1.0, gradient: float = 1.0) -> LayerStep:
    return LayerStep(gradient, weight, ratio * weight, ratio * weight)


def judge(*, rounded: bool = True, loss_is_scaled: bool = False) -> StepJudge:
    return StepJudge(rounded=rounded, loss_is_scaled=loss_is_scaled)


def watch(seen: StepJudge, layers: list[LayerStep | None], loss: float = 1.0) -> dict[int, int]:
    """Return the step of the first verdict on each layer; all samples are alike."""
    first: dict[int, int] = {}
    for step in SAMPLED:
        for verdict in seen.see(step, layers, loss=loss):
            first.setdefault(verdict.layer, step)
    return first


def test_a_layer_that_stands_still_among_others_that_move_is_dead_after_fifty_steps() -> None:
    layers: list[LayerStep | None] = [layer(1e-2)] * LAYERS
    layers[3] = layer(0.9 * STILL_RATIO * 1e-2)
    layers[4] = layer(1.1 * STILL_RATIO * 1e-2)
    assert watch(judge(), layers) == {3: 50}


def test_a_layer_that_wakes_up_in_between_is_not() -> None:
    seen = judge()
    for step in SAMPLED:
        awake = 1e-2 if step % 40 == 0 else 0.0
        assert not seen.see(step, [layer(awake), *[layer(1e-2)] * LAYERS], loss=1.0)


def test_where_most_layers_are_dead_the_few_that_move_give_the_measure() -> None:
    dead, moving = 59, 5
    layers: list[LayerStep | None] = [layer(1e-8)] * dead + [layer(1e-2)] * moving
    assert set(watch(judge(), layers)) == set(range(dead))


def test_a_few_layers_that_race_make_no_others_look_dead() -> None:
    layers: list[LayerStep | None] = [layer(1e-3)] * LAYERS + [layer(0.4)] * 4
    assert watch(judge(), layers) == {}


@given(
    rate=st.floats(1e-9, 1e-1),
    spread=st.lists(st.floats(0.02, 1.0), min_size=3, max_size=80),
    rounded=st.booleans(),
)
def test_layers_that_move_by_comparable_shares_are_never_spoken_of(
    rate: float, spread: list[float], rounded: bool
) -> None:
    assert watch(judge(rounded=rounded), [layer(rate * share) for share in spread]) == {}


def test_what_rounding_hides_is_not_judged() -> None:
    # A learning rate near 0, as at the end of a schedule: some weights round to what they were.
    layers: list[LayerStep | None] = [layer(1e-7)] * 6 + [layer(0.0)] * 6
    assert watch(judge(rounded=True), layers) == {}
    # What is computed from the gradient is not rounded away.
    assert set(watch(judge(rounded=False), layers)) == set(range(6, 12))


def test_frozen_layers_and_layers_that_start_at_zero_are_left_out() -> None:
    layers: list[LayerStep | None] = [layer(1e-2)] * LAYERS
    assert watch(judge(), [None, LayerStep(1.0, 0.0, 1.0, 1.0), *layers]) == {}


def test_steps_longer_than_half_the_weights_explode_at_the_third() -> None:
    layers: list[LayerStep | None] = [layer(0.4), layer(0.6), layer(5.0)]
    assert watch(judge(), layers) == {1: 2, 2: 2}
    found = [v for step in (0, 1, 2) for v in judge().see(step, layers, loss=1.0)]
    assert found == []  # by three judges that have seen one sample each


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_told_at_once(number: float) -> None:
    layers: list[LayerStep | None] = [layer(1e-2)] * 4
    weights = [*layers, LayerStep(1.0, number, 1.0, 1.0)]
    gradients = [*layers, LayerStep(number, 1.0, 1.0, 1.0)]
    for wrong in (weights, gradients):
        (found,) = [v for v in judge().see(0, wrong, loss=1.0) if v.fault == "non-finite"]
        assert found.layer == 4
    assert [v.layer for v in judge().see(0, layers, loss=number)] == [0, 1, 2, 3]


def test_a_loss_scaler_may_overflow_for_a_while_but_not_for_ever() -> None:
    layers: list[LayerStep | None] = [LayerStep(math.inf, 1.0, 0.0, 0.0)] * 4
    assert watch(judge(loss_is_scaled=True), layers) == dict.fromkeys(range(4), 50)
    seen = judge(loss_is_scaled=True)
    for step in SAMPLED:
        good: list[LayerStep | None] = [layer(1e-2)] * 4
        assert not seen.see(step, layers if step < 5 else good, loss=1.0)
    # Weights that are no numbers do not come back.
    ruined: list[LayerStep | None] = [LayerStep(1.0, math.nan, 1.0, 1.0)] * 4
    assert judge(loss_is_scaled=True).see(0, ruined, loss=1.0)


def test_a_verdict_has_the_figures() -> None:
    seen = judge()
    layers: list[LayerStep | None] = [layer(1e-2)] * LAYERS
    found = [v for step in SAMPLED for v in seen.see(step, [*layers, layer(1e-7)], loss=1.0)]
    assert found[0] == Verdict(LAYERS, "dead", pytest.approx(1e-7), pytest.approx(1e-2))
