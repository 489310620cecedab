"""The figures of a report; each takes plain numbers and returns a ``data:`` address."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from training.calibrate.reliability import BINS, Reliability
from training.report.figure import BLUE, COLOURS, GREY, ORANGE, canvas, style, svg_uri
from training.report.history import History, Series
from training.report.objects import SizeBin

# Beyond this spread of a quantity its axis is logarithmic.
WIDE_RATIO = 30.0
# The share of right ones among a few pixels is chance, and one dot of them bends the whole line.
LEAST_IN_BIN = 50


def curves(histories: Mapping[str, History]) -> str:
    """Draw loss, validation Dice and learning rate; several runs in one colour each.

    Args:
        histories: by the run's name; a single one shows training and validation loss and the
            Dice of each class.
    """
    with style():
        figure, (loss, dice, rate) = canvas(3, height_in=2.75)
        alone = len(histories) == 1
        for colour, (name, history) in zip(
            _colours(len(histories)), histories.items(), strict=True
        ):
            trained, checked = history.get("train/loss_epoch"), history.get("val/loss")
            classes = history.dice_by_class
            if alone:
                _line(loss, history, trained, colour, "training")
                _line(loss, history, checked, ORANGE, "validation")
                several = classes if len(classes) > 1 else {}
                for shade, kind in zip(COLOURS[1:], several, strict=False):
                    _line(dice, history, classes[kind], shade, kind, thin=True)
                _line(dice, history, history.get("val/dice"), colour, "mean" if several else None)
            else:
                _line(loss, history, trained, colour, name)
                _line(loss, history, checked, colour, None, dashed=True)
                _line(dice, history, history.get("val/dice"), colour, None)
            _line(rate, history, history.learning_rate, colour, None)
        unit = "epoch" if all(h.steps_per_epoch for h in histories.values()) else "step"
        for axes, title, label in (
            (loss, "Loss", "loss"),
            (dice, "Dice on validation images", "Dice"),
            (rate, "Learning rate", "learning rate"),
        ):
            axes.set(title=title, xlabel=unit, ylabel=label)
            axes.set_xlim(left=0)
            if axes.get_legend_handles_labels()[0]:
                axes.legend()
            if not axes.lines:
                _say(axes, "nothing logged yet")
        drawn = [float(v) for line in dice.lines for v in np.asarray(line.get_ydata())]
        lowest = min((v for v in drawn if np.isfinite(v)), default=0.0)
        dice.set_ylim(max(0.0, np.floor(10 * lowest) / 10 - 0.02), 1.01)
        rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
        return svg_uri(figure)


def score_spread(values: Mapping[str, Sequence[float]]) -> str:
    """Draw each case's Dice as a dot, one row per class, with median and quartiles."""
    with style():
        figure, (axes,) = canvas(1, height_in=0.75 + 0.5 * len(values))
        random = np.random.default_rng(0)
        for row, per_case in enumerate(values.values()):
            scored = np.array([v for v in per_case if not np.isnan(v)])
            if not scored.size:
                continue
            heights = row + random.uniform(-0.22, 0.22, scored.size)
            axes.plot(scored, heights, "o", color=BLUE, alpha=0.45, markersize=4, mew=0)
            low, middle, high = np.quantile(scored, (0.25, 0.5, 0.75))
            axes.plot([low, high], [row, row], color=ORANGE, linewidth=2.2)
            axes.plot([middle], [row], "|", color=ORANGE, markersize=16, mew=2.2)
        axes.set_yticks(range(len(values)), list(values))
        axes.set_ylim(len(values) - 0.5, -0.5)
        lowest = min((v for row in values.values() for v in row if not np.isnan(v)), default=0.0)
        axes.set_xlim(max(-0.02, lowest - 0.05), 1.01)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("Dice of each image (dot); median and quartiles (line)")
        return svg_uri(figure)


def found_by_size(found: Sequence[SizeBin], right: Sequence[SizeBin]) -> str:
    """Draw the share of true objects found, and of answered objects that are true, by size."""
    with style():
        figure, both = canvas(2, height_in=2.7, sharey=True)
        for axes, bins, title, colour in zip(
            both,
            (found, right),
            ("True objects that were found", "Answered objects that are true"),
            (BLUE, ORANGE),
            strict=True,
        ):
            axes.set(title=title, xlabel="area of the object in px", ylabel="share of objects")
            axes.label_outer()
            axes.set_ylim(-0.02, 1.05)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
            if not bins:
                _say(axes, "no object")
                continue
            share = np.array([b.covered / b.objects for b in bins])
            error = np.abs(np.array([b.interval for b in bins]).T - share)
            places = np.arange(len(bins))
            axes.errorbar(places, share, error, fmt="o", color=colour, capsize=3, markersize=5)
            axes.set_xticks(
                places,
                [f"{_span(*b.area_px)}\nn = {b.objects}" for b in bins],
                fontsize=7.5,
            )
            axes.set_xlim(-0.5, len(bins) - 0.5)
            axes.grid(axis="x", visible=False)
        return svg_uri(figure)


def against_properties(
    dice: NDArray[np.float64], properties: Mapping[str, NDArray[np.float64]]
) -> str:
    """Draw each case's Dice against each property, whose label is the key."""
    with style():
        figure, panels = canvas(len(properties), height_in=2.3, sharey=True)
        for axes, (label, values) in zip(panels, properties.items(), strict=True):
            axes.plot(values, dice, "o", color=BLUE, alpha=0.5, markersize=4, mew=0)
            if values.size and values.min() > 0 and values.max() > WIDE_RATIO * values.min():
                axes.set_xscale("log")
            axes.set_xlabel(label)
            axes.set_ylabel("Dice")
            axes.label_outer()
        return svg_uri(figure)


def reliability_diagram(seen: Reliability) -> str:
    """Draw the share of right pixels against confidence, and how many pixels have which."""
    with style():
        figure, (diagram, amount) = canvas(2, height_in=3.0)
        pixels, held = np.array(seen.pixels), np.array(seen.pixels) > 0
        drawn = np.array(seen.pixels) >= LEAST_IN_BIN
        sure = np.array(seen.confidence)[drawn] / pixels[drawn]
        right = np.array(seen.hits)[drawn] / pixels[drawn]
        low = float(np.floor(10 * min(sure.min(), right.min(), 0.5)) / 10) if drawn.any() else 0.0
        diagram.plot([low, 1], [low, 1], color=GREY, linewidth=1, linestyle="--", label="perfect")
        diagram.plot(sure, right, "o-", color=BLUE, markersize=4.5, label="this model")
        diagram.set(
            title="Reliability", xlabel="confidence", ylabel="share of pixels that are right"
        )
        diagram.set_xlim(low - 0.02, 1.02)
        diagram.set_ylim(low - 0.02, 1.02)
        diagram.set_aspect("equal")
        diagram.legend(loc="upper left")
        share = pixels / max(seen.total, 1)
        edges = np.arange(BINS) / BINS
        amount.bar(edges[held], share[held], width=1 / BINS, align="edge", color=BLUE, alpha=0.75)
        amount.set_yscale("log")
        amount.set_xlim(low - 0.02, 1.02)
        amount.set(title="Pixels by confidence", xlabel="confidence", ylabel="share of all pixels")
        return svg_uri(figure)


def differences(per_case: NDArray[np.float64], *, labels: tuple[str, str], metric: str) -> str:
    """Draw two runs' scores of the same cases against each other.

    Args:
        per_case: [n, 2], without NaN.
        labels: of the two.
        metric: what the scores are.
    """
    with style():
        figure, (axes, change) = canvas(2, height_in=3.0)
        low = float(per_case.min()) if per_case.size else 0.0
        margin = 0.03 * (1.0 - low) + 1e-3
        axes.plot([low, 1], [low, 1], color=GREY, linewidth=1, linestyle="--")
        axes.plot(per_case[:, 0], per_case[:, 1], "o", color=BLUE, alpha=0.5, markersize=4, mew=0)
        axes.set_xlim(low - margin, 1 + margin)
        axes.set_ylim(low - margin, 1 + margin)
        axes.set_aspect("equal")
        axes.set(title=f"{metric} of each image", xlabel=labels[0], ylabel=labels[1])
        change.hist(per_case[:, 1] - per_case[:, 0], bins=21, color=BLUE, alpha=0.75)
        change.axvline(0, color=GREY, linestyle="--", linewidth=1)
        change.set(
            title="Difference", xlabel=f"{metric}: {labels[1]} minus {labels[0]}", ylabel="images"
        )
        return svg_uri(figure)


def _colours(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _line(
    axes: Axes,
    history: History,
    series: Series,
    colour: str,
    label: str | None,
    *,
    dashed: bool = False,
    thin: bool = False,
) -> None:
    if not series:
        return
    axes.plot(
        history.in_epochs(series),
        series.values,
        color=colour,
        label=label,
        linestyle="--" if dashed else "-",
        linewidth=1.0 if thin else 1.7,
        # A handful of validations would hide in a line.
        marker="o" if len(series.values) < 12 else None,
        markersize=3.5,
    )


def _span(low: int, high: int) -> str:
    # On two lines: five of them side by side run into each other.
    return f"{low}\n" if low == high else f"{low}\nto {high}"


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
