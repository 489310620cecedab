"""The model card: what a stranger must know before using a file, generated from its spec."""

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from contract.model import Model
from contract.skip_gain import LEAST_GAIN, MOST_GAIN
from contract.spec import MetricSummary, ModelSpec
from training.data.split import Split
from training.graph.prove import Proof
from training.graph.prove_gain import GainProof
from training.graph.variants import Variant

LATENCY_SIZES = ((256, 256), (512, 512))
LATENCY_RUNS = 7


def write_card(
    path: Path,
    model: Model,
    *,
    split: Split | None,
    proof: Proof,
    gain_proof: GainProof | None = None,
    variants: Sequence[Variant] = (),
) -> None:
    """Write the card of ``model`` and the ``variants`` beside it as Markdown to ``path``."""
    spec = model.spec
    sections = [
        f"# {spec.name}",
        spec.description or f"Segments {', '.join(foreground(spec))}.",
        "**Research use only; not a medical device.**",
        "## Use",
        f"- Intended: {spec.intended_use}",
        f"- Out of scope: {spec.out_of_scope_use}",
        f"- Licence of the weights: {spec.licence}",
        "## Input and output",
        *_contract_lines(spec),
        "## Net",
        *_net_lines(model),
        "## Training data",
        *_data_lines(spec, split),
        "## Scores",
        *_score_lines(spec),
        "## Proof",
        f"onnxruntime against PyTorch at {proof.cases} pairs of size and batch that were not "
        f"traced: probabilities differ by at most {proof.max_probability_error:.1e}, no label but "
        "at ties.",
        *_gain_proof_lines(gain_proof),
        *_variant_lines(variants),
        "## Latency",
        *_latency_lines(model),
        "## Limits",
        *_limit_lines(spec),
    ]
    path.write_text("\n\n".join(_paragraphs(sections)) + "\n")


def foreground(spec: ModelSpec) -> tuple[str, ...]:
    """Return the names of all classes but the background."""
    return spec.class_names[0 if spec.task == "multilabel" else 1 :]


def _paragraphs(sections: list[str]) -> list[str]:
    """Join rows of one list or table, so that only paragraphs stand apart."""
    joined: list[str] = []
    for section in sections:
        same_kind = (
            joined and section[:1] in "-|" and joined[-1].splitlines()[-1][:1] == section[:1]
        )
        if same_kind:
            joined[-1] += "\n" + section
        else:
            joined.append(section)
    return joined


def _contract_lines(spec: ModelSpec) -> list[str]:
    normalising = {
        "image": "each channel by the image's own mean and standard deviation",
        "fixed": "each channel by the training set's mean and standard deviation",
    }[spec.normalising.kind]
    indices = ", ".join(f"{index} {name}" for index, name in enumerate(spec.class_names))
    return [
        f"- `image`: float32 [N, {spec.channels}, H, W], raw intensities as decoded"
        + (", RGB order" if spec.colour_order == "RGB" else "")
        + "; any N, H, W from 1 on",
        *_gain_lines(spec),
        f"- `labels`: uint8 [N, H, W], {indices}"
        if spec.task == "multiclass"
        else f"- `labels`: uint8 [N, {len(spec.classes)}, H, W] of 0/1 by class, {indices}",
        f"- `probabilities`: float32 [N, {len(spec.classes)}, H, W]",
        f"- Normalising ({normalising}), padding to {spec.divisor} px and cropping back are in the "
        "graph"
        + (
            f", so is resampling to {spec.working_size[0]} x {spec.working_size[1]} px"
            if spec.working_size
            else ""
        ),
    ]


def _gain_lines(spec: ModelSpec) -> list[str]:
    levels = len(spec.skip_gain_strides)
    if levels == 0:
        return []
    kinds = zip(spec.skip_gain_strides, spec.net.long_skips, strict=True)
    named = ", ".join(f"1:{stride} {kind}" for stride, kind in kinds)
    return [
        f"- `skip_gain` (optional): float32 [1 or N, {levels}], a factor from {LEAST_GAIN:g} to "
        f"{MOST_GAIN:g} on each long skip, finest first ({named}); left out: 1"
    ]


def _gain_proof_lines(proof: GainProof | None) -> list[str]:
    if proof is None:
        return []
    off = proof.default_difference
    rest = "bit for bit those" if off == 0 else f"within {off:.1e} of those"
    return [
        f"Without `skip_gain` the answers are {rest} of the same net exported without that input. "
        f"With it, at {proof.cases} pairs of size and gains, they are within "
        f"{proof.max_probability_error:.1e} of PyTorch with the encoder's features scaled, and no "
        "image's answer depends on the gains of others in its batch."
    ]


def _net_lines(model: Model) -> list[str]:
    net = model.spec.net
    size_mb = os.path.getsize(model.path) / 1e6
    rows = [
        f"- {net.architecture}" + (f" on {net.encoder}" if net.encoder else ""),
        f"- long skips, finest level first: {', '.join(net.long_skips) or 'no dial'}",
        f"- {net.parameters:,} parameters, {model.spec.precision}, file {size_mb:.2f} MB",
    ]
    if net.widths:
        rows.insert(1, f"- channels by level: {', '.join(map(str, net.widths))}")
    if net.block:
        rows.insert(2, f"- blocks {net.block}, norm {net.norm}, activation {net.activation}")
    return [*rows, *answer_lines(model.spec)]


def answer_lines(spec: ModelSpec) -> list[str]:
    """Return what stands between net and answer; nothing for one net without options."""
    rows = []
    if spec.members > 1:
        rows.append(f"- the mean probability of {spec.members} such nets")
    if spec.mirrors:
        rows.append(f"- also asked for the image mirrored: {', '.join(spec.mirrors)}")
    if spec.calibration is not None:
        fitted = spec.calibration
        rows.append(
            f"- temperature {fitted.temperature:g}, fitted on {fitted.images} validation images: "
            f"calibration error there {fitted.ece_before:.4f} before, {fitted.ece_after:.4f} after"
        )
    if spec.thresholds_prob is not None:
        by_class = zip(spec.class_names, spec.thresholds_prob, strict=True)
        listed = ", ".join(f"{name} {threshold:g}" for name, threshold in by_class)
        rows.append(f"- class thresholds, chosen by validation Dice: {listed}")
    return rows


def _data_lines(spec: ModelSpec, split: Split | None) -> list[str]:
    seen = spec.training_data
    if seen is None:
        return ["Not recorded."]
    height, width = seen.height_min_median_max, seen.width_min_median_max
    rows = [
        f"- {seen.images} images, height {height[0]:g} to {height[2]:g} px (median {height[1]:g}), "
        f"width {width[0]:g} to {width[2]:g} px (median {width[1]:g})",
        "- raw intensities, 1st / 50th / 99th percentile per channel: "
        + "; ".join(
            f"{low:g} / {middle:g} / {high:g}" for low, middle, high in seen.intensity_p01_p50_p99
        ),
        "- share of pixels: "
        + ", ".join(
            f"{name} {100 * share:.1f} %"
            for name, share in zip(spec.class_names, seen.class_pixel_fraction, strict=True)
        ),
    ]
    if split is not None:
        rows.append(
            f"- split {split.kind}, seed {split.seed}: {len(split.train)} train, {len(split.val)} "
            f"validation, {len(split.test)} test"
        )
    return rows


def _score_lines(spec: ModelSpec) -> list[str]:
    if not spec.metrics:
        return ["Not scored at export."]
    rows = ["| part | class | metric | mean | 95 % interval | cases | both empty, left out |"]
    rows.append("|---|---|---|---|---|---|---|")
    rows += [_score_row(metric) for metric in spec.metrics]
    rows.append(
        "Mean over images, through this file; bootstrap interval over images. The validation part "
        "chose the checkpoint, so its figures are a little too good; the test part did not."
    )
    return rows


def _score_row(metric: MetricSummary) -> str:
    mean = "-" if metric.mean is None else f"{metric.mean:.4f}"
    interval = "-" if metric.ci95 is None else f"{metric.ci95[0]:.4f} to {metric.ci95[1]:.4f}"
    return (
        f"| {metric.part} | {metric.class_name} | {metric.metric} | {mean} | {interval} | "
        f"{metric.cases} | {metric.excluded_empty} |"
    )


def _variant_lines(variants: Sequence[Variant]) -> list[str]:
    if not variants:
        return []
    part = variants[0].part
    rows = ["## Precision variants", f"| file | MB | {part} Dice | lost | labels changed |"]
    rows.append("|---|---|---|---|---|")
    for variant in variants:
        path = variant.model.path
        rows.append(
            f"| {path.name} | {os.path.getsize(path) / 1e6:.2f} | {variant.dice:.4f} | "
            f"{variant.dice_loss:+.4f} | {100 * variant.clear_flips:.3f} % |"
        )
    rows.append(
        f"Lost: {part} Dice against fp32, of the class that loses most. Labels changed: of the "
        "clear pixels of synthetic pictures at sizes that were neither traced nor calibrated."
    )
    return rows


def _latency_lines(model: Model) -> list[str]:
    rows = ["| size | median ms |", "|---|---|"]
    for size in LATENCY_SIZES:
        rows.append(f"| {size[0]} x {size[1]} | {1000 * median_latency_s(model, size):.1f} |")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rows.append(
        f"`labels` alone, batch 1, {model.provider}, {cores} cores, {platform.machine()}; measured "
        "once at export: an order of magnitude, not a benchmark."
    )
    return rows


def median_latency_s(model: Model, size: tuple[int, int], *, runs: int = LATENCY_RUNS) -> float:
    """Return the median seconds of ``labels`` for one image of ``size`` (H, W), after a warm-up."""
    generator = np.random.default_rng(0)
    image = generator.uniform(0, 255, (1, model.spec.channels, *size)).astype(np.float32)
    model.run(image)
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        model.run(image)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _limit_lines(spec: ModelSpec) -> list[str]:
    limit = f"- Taken whole up to {spec.whole_image_max_pixels:,} pixels"
    if spec.tiles is not None:
        patch = spec.tiles.patch
        limit += f"; beyond that in tiles of {patch[0]} x {patch[1]} px, blended"
    else:
        limit += "; larger images are refused (the net looks at the whole image at once)"
    return [
        limit + ".",
        "- Images unlike the training data above (other stain, modality, magnification, disease) "
        "can be segmented wrongly without any sign of it.",
        "- Touching objects of one class are not separated: the output is a semantic mask.",
    ]
