"""The reliability plot: share of right pixels over confidence, before and after tuning."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.calibrate.reliability import BINS, Reliability

COLOURS = ("#d55e00", "#0072b2")


def write_reliability_plot(path: Path, curves: dict[str, Reliability], *, title: str) -> None:
    """Write a PNG with one curve per entry; bins without a pixel are left out.

    The lower panel shows how the pixels lie over the bins, on a logarithmic scale.
    """
    figure = Figure(figsize=(4.8, 5.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="perfect")
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
        kept = [index for index in range(BINS) if curve.pixels[index]]
        confidence = [curve.confidence[index] / curve.pixels[index] for index in kept]
        share = [curve.hits[index] / curve.pixels[index] for index in kept]
        label = f"{name}: ECE {curve.ece:.4f}"
        upper.plot(confidence, share, marker="o", markersize=4, color=colour, label=label)
        lower.step(confidence, [curve.pixels[index] for index in kept], where="mid", color=colour)
    upper.set(title=title, ylabel="share of pixels that are right", xlim=(0, 1), ylim=(0, 1))
    upper.legend(loc="upper left", fontsize=8)
    lower.set(xlabel="confidence of the most probable class", ylabel="pixels", yscale="log")
    # Without a date and a version of its own, equal curves give equal bytes.
    figure.savefig(path, metadata={"Software": None})
