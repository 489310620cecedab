"""Studies that train nothing: how much of the gradient reaches the first layer of fresh nets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from matplotlib.colors import TwoSlopeNorm

from training.report.figure import canvas, style
from training.study.analyse import Analysis
from training.study.config import StudyConfig
from training.study.figures import FOLDER, Drawn, keep
from training.study.record import StudyRecord

RATIOS = {
    "gradient-flow.first_per_last": "first / last layer",
    "gradient-flow.centre_per_last": "centre / last layer",
}
# Beyond a thousandfold either way, a layer learns nothing at the rate that suits another.
VANISHED, EXPLODED = 1e-3, 1e3
SHOWN_DECADES = 6.0  # a colour for every decade up to here


@dataclass(frozen=True)
class Ratio:
    """How the gradient of one layer compares with that of the last, over the seeds of an arm.

    Attributes:
        by_seed: 0 is an underflow; nothing for a seed whose last layer had no gradient either.
        seeds: how many were looked at.
    """

    by_seed: tuple[float, ...]
    seeds: int

    @property
    def middle(self) -> float:
        """The geometric mean; 0 where any seed underflows or none has a ratio."""
        if not self.by_seed or min(self.by_seed) <= 0:
            return 0.0
        return float(np.exp(np.mean(np.log(self.by_seed))))

    @property
    def text(self) -> str:
        """Such as ``1.5e-08``, ``0.22``, ``0 (underflow)``."""
        if not self.by_seed:
            return "0 everywhere"
        if self.middle == 0:
            return "0 (underflow)"
        return f"{self.middle:.2g}" if 0.01 <= self.middle < 1000 else f"{self.middle:.1e}"


def ratios(record: StudyRecord, dataset: str, column: str) -> dict[str, Ratio]:
    """Return the ratio of every arm that has been looked at."""
    found = {}
    for arm in record.config.all_arms:
        runs = [run for run in record.runs_of(dataset, arm) if run.scored]
        # Without a count of layers the probe did not run; with one, no ratio is no gradient.
        runs = [run for run in runs if not math.isnan(run.number("gradient-flow.convs"))]
        if runs:
            values = [run.number(column) for run in runs]
            found[arm] = Ratio(tuple(v for v in values if not math.isnan(v)), len(values))
    return found


def by_level(config: StudyConfig, found: Mapping[str, Ratio]) -> list[tuple[str, ...]]:
    """Return for each level of each factor how many nets vanish, hold and explode."""
    rows = []
    for factor, levels in config.factors.items():
        for level in levels:
            own = [
                r.middle for arm, r in found.items() if config.levels_of(arm).get(factor) == level
            ]
            if own:
                counts = _counts(own)
                shares = [f"{n} of {len(own)}" for n in counts]
                rows.append((factor, level, *shares))
    return rows


def fresh_answer(analysis: Analysis) -> list[str]:
    """Return three sentences on the gradients of fresh nets."""
    record, config = analysis.record, analysis.record.config
    column = next(iter(RATIOS))
    for dataset in config.datasets:
        found = ratios(record, dataset, column)
        if not found:
            continue
        low = min(found, key=lambda arm: found[arm].middle)
        high = max(found, key=lambda arm: found[arm].middle)
        vanished, held, exploded = _counts([r.middle for r in found.values()])
        sentences = [
            f"Of {len(found)} nets as they are initialised, the gradient of the first layer is "
            f"less than a thousandth of the last's in {vanished}, more than a thousand times in "
            f"{exploded}, and between in {held}.",
            f"It runs from {found[low].text} (“{low}”) to {found[high].text} (“{high}”), the "
            "geometric mean over seeds.",
        ]
        factor = _most_telling(config, found)
        if factor is not None:
            sentences.append(factor)
        return sentences
    return ["No net has been looked at yet."]


def draw_fresh(analysis: Analysis, root: Path) -> list[Drawn]:
    """Draw a map of the ratios over all factors for each data set."""
    drawn = []
    config = analysis.record.config
    if config.steps or not config.factors:
        return []
    for dataset, (column, label) in product(config.datasets, RATIOS.items()):
        found = ratios(analysis.record, dataset, column)
        if found:
            name = f"{column.split('.')[-1].replace('_', '-')}-{dataset}"
            drawn.append(_map(config, found, dataset, label, root / FOLDER, name))
    return drawn


def _map(
    config: StudyConfig,
    found: Mapping[str, Ratio],
    dataset: str,
    label: str,
    folder: Path,
    name: str,
) -> Drawn:
    """Draw one cell per net; the last one or two factors run across, the others down."""
    factors = list(config.factors)
    across = factors[-2:] if len(factors) > 2 else factors[-1:]
    down = [factor for factor in factors if factor not in across]
    arm_of = {frozenset(config.levels_of(arm).items()): arm for arm in found}
    columns, rows = _grid(config, across), _grid(config, down)
    decades = np.full((len(rows), len(columns)), np.nan)
    texts: dict[tuple[int, int], str] = {}
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        arm = arm_of.get(frozenset({**row, **column}.items()))
        if arm is None:
            continue
        middle = found[arm].middle
        decades[i, j] = -math.inf if middle == 0 else math.log10(middle)
        texts[i, j] = "0" if middle == 0 else f"{decades[i, j]:+.0f}".replace("-", "\N{MINUS SIGN}")
        if texts[i, j] in ("+0", "\N{MINUS SIGN}0"):
            texts[i, j] = "·"
    with style():
        height_in = 2.6 + 0.2 * len(rows)
        figure, (axes,) = canvas(1, height_in=height_in)
        image = axes.imshow(
            np.clip(decades, -SHOWN_DECADES, SHOWN_DECADES),
            cmap="PuOr_r",
            norm=TwoSlopeNorm(0, -SHOWN_DECADES, SHOWN_DECADES),
            aspect="auto",
        )
        for (i, j), text in texts.items():
            dark = abs(max(decades[i, j], -SHOWN_DECADES)) > 0.65 * SHOWN_DECADES
            colour = "white" if dark else "#1b1f24"
            axes.text(j, i, text, ha="center", va="center", fontsize=7.5, color=colour)
        across_names = [", ".join(column.values()) for column in columns]
        axes.set_xticks(range(len(columns)), across_names, fontsize=7.5, rotation=90)
        axes.set_yticks(range(len(rows)), [", ".join(r.values()) for r in rows], fontsize=7.5)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.set_title(f"Gradient, {label}: powers of ten")
        axes.set_xlabel(" / ".join(across))
        figure.colorbar(image, ax=axes, shrink=0.8, label="powers of ten", extend="both")
        caption = (
            f"Norm of the gradient, {label}, of fresh nets on {dataset}: geometric mean over "
            "seeds, in powers of ten. Violet with a minus: it vanishes on its way back; orange "
            "with a plus: it explodes; a dot: within half a power of ten; 0: exactly 0, an "
            "underflow."
        )
        return keep(figure, folder, name, caption)


def _grid(config: StudyConfig, factors: Sequence[str]) -> list[dict[str, str]]:
    levels = [list(config.factors[factor]) for factor in factors]
    return [dict(zip(factors, row, strict=True)) for row in product(*levels)]


def _counts(values: Sequence[float]) -> tuple[int, int, int]:
    vanished = sum(value < VANISHED for value in values)
    exploded = sum(value > EXPLODED for value in values)
    return vanished, len(values) - vanished - exploded, exploded


def _most_telling(config: StudyConfig, found: Mapping[str, Ratio]) -> str | None:
    """Say which factor's levels differ most in how many of their nets hold the gradient."""
    widest, text = 0.0, None
    for factor, levels in config.factors.items():
        held = {}
        for level in levels:
            own = [
                r.middle for arm, r in found.items() if config.levels_of(arm).get(factor) == level
            ]
            if own:
                held[level] = _counts(own)[1] / len(own)
        if len(held) > 1 and max(held.values()) - min(held.values()) > widest:
            best, worst = max(held, key=lambda k: held[k]), min(held, key=lambda k: held[k])
            widest = held[best] - held[worst]
            text = (
                f"Of all factors “{factor}” parts them most: the gradient is held in "
                f"{100 * held[best]:.0f} % of the nets with “{best}” and in "
                f"{100 * held[worst]:.0f} % of those with “{worst}”."
            )
    return text
