"""Lesion: what a trained net loses when a part of it is taken away as it answers.

After Veit 2016, section 4.1: drop one residual block of a trained net, so that only its identity
is left, and see how little is lost; drop one layer of a plain net, and all is. Here also each long
skip is turned down, to nothing or by half: what the decoder was given, less what it then lacks.

A lesion is not a retraining: a decoder that was trained with a skip has never seen zeros there, so
what is lost by a lesion is more than what training without the skip loses. It tells what this net
leans on, not what a skip is good for.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torchvision.models.resnet import BasicBlock, Bottleneck
from tqdm import tqdm

from contract.errors import RequestInvalid
from contract.metrics import summarise
from training.nets.blocks import ResidualUnit
from training.nets.unet import UNet
from training.probe.lesion_figure import draw_lesion
from training.probe.lesion_row import LesionRow
from training.probe.paired import paired_row
from training.probe.probed import Probed, unlike
from training.probe.rows import write_rows

Kind = Literal["none", "long skip", "residual block", "plain layer"]
Answer = Callable[[NDArray[np.float32]], NDArray[np.uint8]]
Hook = Callable[[nn.Module, float], RemovableHandle]
GAINS = (0.0, 0.5)
WHOLE = "whole"
# What the body of a residual block ends in; scaled by 0, only the shortcut is left.
BODY_ENDS: dict[type[nn.Module], str] = {ResidualUnit: "body", BasicBlock: "bn2", Bottleneck: "bn3"}


@dataclass(frozen=True)
class Lesion:
    """One way to damage a net, and how the damaged net answers.

    Attributes:
        target: what is damaged, such as ``skip 0``; level 0 is the finest.
        kind: of part.
        gain: that its output is multiplied by; 0: it is gone, 1: it is whole.
        answer: raw intensities ``[C, H, W]`` to labels; of a checkpoint, or of a model file.
    """

    target: str
    kind: Kind
    gain: float
    answer: Answer


@dataclass(frozen=True)
class LesionCase:
    """Dice of one class of one image under one lesion; NaN where there is no score."""

    net: str
    target: str
    kind: str
    gain: float
    stem: str
    class_name: str
    dice: float
    dice_lost: float


def probe_lesion(
    probed: Probed, folder: Path, *, gains: Sequence[float] = GAINS
) -> dict[str, float]:
    """Damage one net; see ``compare_lesion``. The figures have no name before them."""
    found = compare_lesion([probed], folder, gains=gains)
    return {key.removeprefix(f"{probed.name}."): value for key, value in found.items()}


def compare_lesion(
    nets: Sequence[Probed], folder: Path, *, gains: Sequence[float] = GAINS
) -> dict[str, float]:
    """Damage each part of each net in turn, and score every image.

    Writes ``cases.csv``, ``lesions.csv`` and a figure ``lesion`` with a row per net.

    Args:
        nets: on the same images.
        folder: for all of it.
        gains: that long skips are turned down to.

    Returns:
        Mean loss of Dice over images and classes when a part is gone, by ``<net>.<target>``.

    Raises:
        RequestInvalid: no net has a part that can be taken away.
    """
    refused = unlike(nets)
    if refused is not None:
        raise RequestInvalid(refused)
    lesions = {net.name: list(lesions_of(net, gains)) for net in nets}
    if not any(lesions.values()):
        kinds = ", ".join(str(net.description.net["architecture"]) for net in nets)
        raise RequestInvalid(
            f"nothing to take away: {kinds} without a long skip on our dial, a residual block or a "
            "plain layer that keeps its width"
        )
    cases = {net.name: damage(net, lesions[net.name]) for net in nets}
    rows = {net.name: summarise_lesions(net, cases[net.name]) for net in nets}
    write_rows(folder / "cases.csv", [case for found in cases.values() for case in found])
    write_rows(folder / "lesions.csv", [row for found in rows.values() for row in found])
    draw_lesion([row for found in rows.values() for row in found], folder)
    figures: dict[str, float] = {}
    for name, found in rows.items():
        for row in found:
            if row.gain == 0:
                same = [r for r in found if (r.target, r.gain) == (row.target, 0)]
                lost = [r.dice_lost for r in same if r.dice_lost is not None]
                if lost:
                    figures[f"{name}.{row.target}"] = float(np.mean(lost))
    return figures


def lesions_of(probed: Probed, gains: Sequence[float] = GAINS) -> Iterator[Lesion]:
    """Yield a lesion per long skip and gain, per residual block and per plain layer.

    A long skip's gain multiplies the encoder's features before they are joined; residual blocks
    and plain layers are dropped altogether. Plain layers that change the number of channels
    cannot be dropped.
    """
    net = probed.graph.net
    skips = getattr(net, "skips", None) or ()
    crossing = [level for level, kind in enumerate(net.long_skips) if kind != "none"]
    for gain in dict.fromkeys(gains):  # one that is given twice is one
        for level in crossing:
            yield _lesion(probed, f"skip {level}", "long skip", gain, [(skips[level], _features)])
        if len(crossing) > 1:
            parts = [(skips[level], _features) for level in crossing]
            yield _lesion(probed, "all skips", "long skip", gain, parts)
    for name, module in net.named_modules():
        end = BODY_ENDS.get(type(module))
        if end is not None:
            body = module.get_submodule(end)
            yield _lesion(probed, _place(name), "residual block", 0.0, [(body, _output)])
    for name, conv, norm in _plain_layers(net):
        yield _lesion(probed, name, "plain layer", 0.0, [(conv, _bypass), (norm, _bypass)])


def damage(probed: Probed, lesions: Sequence[Lesion]) -> list[LesionCase]:
    """Score every image under each lesion, the whole net first.

    ``lesions`` may answer by any means, such as a gated model file's ``skip_gain``.
    """
    whole = Lesion(WHOLE, "none", 1.0, probed.answer)
    cases = []
    with tqdm(
        total=len(probed.stems) * (len(lesions) + 1),
        desc=f"taking parts from {probed.name}",
        unit="answer",
        disable=None,
    ) as progress:
        for stem in probed.stems:
            image = probed.image(stem)
            undamaged: dict[int, float] = {}
            for lesion in (whole, *lesions):
                scores = probed.score(lesion.answer(image.image_chw), image.truth)
                for index in probed.foreground:
                    dice = scores[index].dice
                    cases.append(
                        LesionCase(
                            net=probed.name,
                            target=lesion.target,
                            kind=lesion.kind,
                            gain=lesion.gain,
                            stem=stem,
                            class_name=probed.class_names[index],
                            dice=dice,
                            dice_lost=undamaged.setdefault(index, dice) - dice,
                        )
                    )
                progress.update()
    return cases


def summarise_lesions(probed: Probed, cases: Sequence[LesionCase]) -> list[LesionRow]:
    """Return the mean loss of each lesion and class, paired by image, in the order of ``cases``."""
    found: dict[tuple[str, str, float, str], list[LesionCase]] = {}
    for case in cases:
        key = (case.target, case.kind, case.gain, case.class_name)
        found.setdefault(key, []).append(case)
    rows = []
    for (target, kind, gain, class_name), same in found.items():
        undamaged = found[(WHOLE, "none", 1.0, class_name)]
        loss = paired_row(
            (WHOLE, [case.dice for case in undamaged]),
            (target, [case.dice for case in same]),
            class_name=class_name,
            measure="dice",
            groups=probed.groups,
            seed=probed.seed,
        )
        rows.append(
            LesionRow(
                net=probed.name,
                target=target,
                kind=kind,
                gain=gain,
                class_name=class_name,
                cases=loss.cases,
                dice=summarise(case.dice for case in same).mean,
                dice_lost=loss.mean_difference,
                ci95_low=loss.ci95_low,
                ci95_high=loss.ci95_high,
                p_value=loss.p_value,
            )
        )
    return rows


def _lesion(
    probed: Probed,
    target: str,
    kind: Kind,
    gain: float,
    parts: Sequence[tuple[nn.Module, Hook]],
) -> Lesion:
    def answer(image_chw: NDArray[np.float32]) -> NDArray[np.uint8]:
        with ExitStack() as hooks:  # the net is whole again after each answer
            for module, hook in parts:
                hooks.callback(hook(module, gain).remove)
            return probed.answer(image_chw)

    return Lesion(target, kind, gain, answer)


def _features(skip: nn.Module, gain: float) -> RemovableHandle:
    """Scale what the encoder hands to a long skip."""

    def scale(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        decoder, encoder, *rest = arguments
        return (decoder, encoder * gain, *rest)

    return skip.register_forward_pre_hook(scale)


def _output(module: nn.Module, gain: float) -> RemovableHandle:
    """Scale what a module answers."""

    def scale(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        return output * gain

    return module.register_forward_hook(scale)


def _bypass(module: nn.Module, gain: float) -> RemovableHandle:
    """Let a module hand on what it is given."""

    def hand_on(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Any:
        return arguments[0]

    return module.register_forward_hook(hand_on)


def _plain_layers(net: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Module]]:
    """Yield name, convolution and norm of each layer of plain blocks that keeps its width.

    What comes in is what an activation gave, and the layer's own activation changes it no more if
    it is a ReLU; others are applied once more.
    """
    if not isinstance(net, UNet):
        return
    blocks = {f"encoder level {level}": block for level, block in enumerate(net.encoder)}
    blocks["bottleneck"] = net.bottleneck
    blocks.update({f"decoder level {level}": block for level, block in enumerate(net.decoder)})
    for name, block in blocks.items():
        layers: list[nn.Module] = list(block.children())
        if layers and isinstance(layers[0], nn.Sequential):  # a dropout stands behind the block
            layers = list(layers[0].children())
        for place, module in enumerate(layers):
            if isinstance(module, nn.Conv2d) and module.in_channels == module.out_channels:
                yield f"{name}, conv {place // 3 + 1}", module, layers[place + 1]


def _place(name: str) -> str:
    """Return ``encoder level 1, unit 1`` for ``encoder.1.0``; smp's own names as they are."""
    part, *numbers = name.split(".")
    if part not in ("encoder", "bottleneck", "decoder") or not all(n.isdigit() for n in numbers):
        return name
    level = "" if part == "bottleneck" else f" level {numbers[0]}"
    return f"{part}{level}, unit {int(numbers[-1]) + 1}"
