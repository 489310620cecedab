"""When a layer's training counts as dead or exploding; docs/adr/0021-gradient-alarm.md says why.

All figures are measured between two states of the weights, and each is held against what other
layers of the same net do in the same step, so that no learning rate, schedule or loss is assumed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Fault = Literal["dead", "exploding", "non-finite"]

# A layer that moves this many times less than the layers that move is standing still.
STILL_RATIO = 1e-3
# Below this move per step float32 rounds, and everything stands still: a rate near 0, or the end.
LEAST_MOVE = 1e-4
# Steps half as long as the weights leave nothing of what these had learned.
LONG_STEP = 0.5
# One odd step is none; a rectifier may sleep for some.
STILL_STEPS, STILL_SAMPLES = 50, 5
EXPLODING_SAMPLES = 3
# The layers that move are known by one that few exceed: one or two odd ones set no scale.
EXCEEDED_BY = 4
FEW_LAYERS = 10


@dataclass(frozen=True)
class LayerStep:
    """What one optimiser step did to one layer.

    Attributes:
        gradient: Euclidean norm of the weights' gradient.
        weight: of the weights before the step.
        update: of what the step changed.
        pull: of what the gradient's part of the step changed, without weight decay.
    """

    gradient: float
    weight: float
    update: float
    pull: float


@dataclass(frozen=True)
class Verdict:
    """What is wrong with one layer.

    Attributes:
        layer: its place in the list that was judged.
        fault: what is wrong.
        figure: pull by weight where it is dead, update by weight where it explodes; NaN else.
        others: pull by weight of the layers that move.
    """

    layer: int
    fault: Fault
    figure: float
    others: float


class StepJudge:
    """Sees samples of steps one after the other, and says what has been wrong for long enough.

    Args:
        rounded: whether ``pull`` is a difference of two weights, which rounding hides when small.
        loss_is_scaled: whether a scaler skips steps whose gradients overflow, so that these count
            only where they do not end.
    """

    def __init__(self, *, rounded: bool, loss_is_scaled: bool) -> None:
        self._rounded = rounded
        self._scaled = loss_is_scaled
        self._still: dict[int, list[int]] = {}
        self._exploding: dict[int, int] = {}
        self._overflowing: list[int] = []

    def see(self, step: int, layers: Sequence[LayerStep | None], *, loss: float) -> list[Verdict]:
        """Return what is wrong at ``step``; a layer is None where it is not trained."""
        trained = {i: layer for i, layer in enumerate(layers) if layer is not None}
        others = _others([_ratio(layer.pull, layer.weight) for layer in trained.values()])
        return [
            *self._non_finite(step, trained, loss),
            *self._exploded(trained, others),
            *self._dead(step, trained, others),
        ]

    def _non_finite(self, step: int, trained: dict[int, LayerStep], loss: float) -> list[Verdict]:
        weights = [i for i, layer in trained.items() if not math.isfinite(layer.weight)]
        gradients = [i for i, layer in trained.items() if not math.isfinite(layer.gradient)]
        wrong = weights or gradients or ([] if math.isfinite(loss) else list(trained))
        self._overflowing = [*self._overflowing, step] if wrong else []
        passing = self._scaled and not weights and not _for_long(self._overflowing)
        if passing:
            return []
        return [Verdict(i, "non-finite", math.nan, math.nan) for i in wrong]

    def _exploded(self, trained: dict[int, LayerStep], others: float) -> list[Verdict]:
        ratios = {i: _ratio(layer.update, layer.weight) for i, layer in trained.items()}
        self._exploding = {
            i: self._exploding.get(i, 0) + 1
            for i, ratio in ratios.items()
            if LONG_STEP < ratio < math.inf
        }
        return [
            Verdict(i, "exploding", ratios[i], others)
            for i, samples in self._exploding.items()
            if samples >= EXPLODING_SAMPLES
        ]

    def _dead(self, step: int, trained: dict[int, LayerStep], others: float) -> list[Verdict]:
        if not others > (LEAST_MOVE if self._rounded else 0.0):
            return []  # nothing moves, or nothing can be said of it; what was seen before stands
        ratios = {i: _ratio(layer.pull, layer.weight) for i, layer in trained.items()}
        self._still = {
            i: [*self._still.get(i, []), step]
            for i, ratio in ratios.items()
            if ratio < STILL_RATIO * others
        }
        return [
            Verdict(i, "dead", ratios[i], others)
            for i, steps in self._still.items()
            if _for_long(steps)
        ]


def _for_long(steps: Sequence[int]) -> bool:
    return len(steps) >= STILL_SAMPLES and steps[-1] - steps[0] >= STILL_STEPS


def _others(ratios: Sequence[float]) -> float:
    """Return the ratio of the layers that move, NaN of too few layers to compare."""
    finite = sorted((ratio for ratio in ratios if math.isfinite(ratio)), reverse=True)
    if len(finite) < 3:
        return math.nan
    return finite[EXCEEDED_BY if len(finite) >= FEW_LAYERS else 1]


def _ratio(above: float, below: float) -> float:
    # A layer that starts at zero weights moves by more than all of them, and is no fault.
    return above / below if below else math.nan
