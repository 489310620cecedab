"""How far a study is: which tries of learning rates and which runs are there, and which are not."""

from collections.abc import Mapping
from dataclasses import dataclass

from training.study.record import StudyRecord

LISTED = 4


@dataclass(frozen=True)
class Standing:
    """One kind of cells of a study.

    Attributes:
        states: of each cell by its name, such as ``em none seed-0``; in the order of the study.
    """

    states: Mapping[str, str]

    @property
    def missing(self) -> list[str]:
        """Return the cells that are not done yet."""
        return [name for name, state in self.states.items() if state == "not done"]

    def __str__(self) -> str:
        """Return e.g. ``3 of 4 done, 1 failed (em none seed-1)``; up to four are named."""
        by_state: dict[str, list[str]] = {}
        for name, state in self.states.items():
            by_state.setdefault(state, []).append(name)
        done = by_state.pop("done", [])
        parts = [f"{len(done)} of {len(self.states)} done"]
        for state, names in by_state.items():
            named = ", ".join(names[:LISTED]) + (", …" if len(names) > LISTED else "")
            parts.append(f"{len(names)} {state} ({named})")
        return ", ".join(parts)


def tries_of(record: StudyRecord) -> Standing:
    """Return how far the tries of learning rates are; empty where a study tunes none."""
    config = record.config
    if len(config.learning_rates) < 2 or not config.steps:
        return Standing({})
    seen = {(run.dataset, run.arm, run.lr): run.state for run in record.tries}
    return Standing(
        {
            f"{dataset} {arm} lr-{lr:g}": seen.get((dataset, arm, lr), "not done")
            for dataset in config.datasets
            for arm in config.all_arms
            for lr in config.learning_rates
        }
    )


def runs_of(record: StudyRecord) -> Standing:
    """Return how far the runs are that the report is about."""
    config = record.config
    seen = {(run.dataset, run.arm, run.seed): run.state for run in record.runs}
    return Standing(
        {
            f"{dataset} {arm} seed-{seed}": seen.get((dataset, arm, seed), "not done")
            for seed in config.seeds
            for dataset in config.datasets
            for arm in config.all_arms
        }
    )
