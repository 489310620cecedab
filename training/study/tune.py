"""The learning rate of each arm, from its tries."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from training.study.cells import Cell, Outcome, read_outcome
from training.study.config import StudyConfig


def chosen_rates(
    config: StudyConfig, sweep: Sequence[Cell], *, root: Path
) -> dict[tuple[str, str], float]:
    """Return the learning rate by data set and arm: that of the best try.

    An arm none of whose tries came to an end takes the first rate, and its runs will say why.
    """
    tries: dict[tuple[str, str], dict[float, Outcome]] = {}
    for cell in sweep:
        outcome = read_outcome(cell.folder(root))
        if outcome is not None:
            tries.setdefault((cell.dataset, cell.arm), {})[cell.lr] = outcome
    return {
        (dataset, arm): best_rate(tries.get((dataset, arm), {})) or config.learning_rates[0]
        for dataset in config.datasets
        for arm in config.all_arms
    }


def best_rate(tries: Mapping[float, Outcome]) -> float | None:
    """Return the rate of highest Dice; of equals (all collapsed, say) that of the lowest loss."""
    finite = {rate: found for rate, found in tries.items() if not found.diverged}
    if not finite:
        return None
    return max(finite, key=lambda rate: _merit(finite[rate]))


def at_edge(rate: float, rates: Sequence[float]) -> bool:
    """Whether the best rate is the lowest or highest of those tried, so a better may lie beyond."""
    return len(rates) > 1 and rate in (min(rates), max(rates))


def _merit(found: Outcome) -> tuple[float, float]:
    loss = math.inf if found.loss is None or math.isnan(found.loss) else found.loss
    return (-1.0 if found.dice is None else found.dice), -loss
