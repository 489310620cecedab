"""The proof of a dial: at rest it changes nothing, turned it does what PyTorch does."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from contract.model import Model
from training.graph.assemble import ModelGraph
from training.graph.prove import (
    PROOF_SIZES,
    ExportWrong,
    compare,
    proof_batch,
)


@dataclass(frozen=True)
class GainProof:
    """What was found of a file with ``skip_gain``.

    Attributes:
        cases: pairs of size and gains.
        default_difference: largest difference of a probability, at rest, to the same net exported
            without the dial; 0 where they agree bit for bit.
        max_probability_error: turned, against PyTorch with scaled features.
    """

    cases: int
    default_difference: float
    max_probability_error: float


def prove_gain(
    graph: ModelGraph,
    model: Model,
    plain: Model,
    *,
    intensity_range: tuple[float, float],
    sizes: Sequence[tuple[int, int]] = PROOF_SIZES,
) -> GainProof:
    """Compare the file ``model`` with ``plain``, its twin without the dial, and with PyTorch.

    PyTorch scales the features by hooks on the skips, by none of the code that is exported.

    Raises:
        ExportWrong: the dial at rest changes an answer, turned it answers otherwise than PyTorch,
            an image's answer depends on the gains of the others in its batch, or a level without
            a skip has an effect.
    """
    kinds = model.spec.net.long_skips
    gains = proof_gains(len(kinds))
    rest = np.ones_like(gains)
    unlinked = np.array([[kind == "none" for kind in kinds]])
    differences, errors = [0.0], [0.0]
    for index, size in enumerate(sizes):
        image = proof_batch(
            [97 * index + n for n in range(len(gains))], model.spec.channels, size, intensity_range
        )
        where = f"{size[0]}x{size[1]}"
        outputs = graph.outputs
        twin = plain.run(image, outputs=outputs)
        for given in (None, rest):
            own = model.run(image, skip_gain=given, outputs=outputs)
            expected = [twin[name] for name in outputs]
            error, _ = compare(model, outputs, expected, own, where=f"{where}, the dial at rest,")
            differences.append(error)
        turned = model.run(image, skip_gain=gains, outputs=outputs)
        with scaled_skips(graph, gains), torch.inference_mode():
            expected = [answer.numpy() for answer in graph(torch.from_numpy(image))]
        error, _ = compare(model, outputs, expected, turned, where=f"{where}, the dial turned,")
        errors.append(error)
        for n in range(len(gains)):
            one = slice(n, n + 1)
            alone = model.run(image[one], skip_gain=gains[one], outputs=outputs)
            together = [turned[name][one] for name in outputs]
            compare(model, outputs, together, alone, where=f"{where}, alone against in a batch,")
        loose = np.where(unlinked, rest, gains).astype(np.float32)
        _check_none(turned, model.run(image, skip_gain=loose, outputs=outputs), where)
    return GainProof(
        cases=len(sizes) * len(gains),
        default_difference=max(differences),
        max_probability_error=max(errors),
    )


def proof_gains(levels: int) -> NDArray[np.float32]:
    """Return gains ``[N, levels]``: all off, each level alone off, and all different."""
    each_off = 1 - np.eye(levels)
    mixed = np.linspace(0.25, 1.75, levels)[None]
    return np.concatenate([np.zeros((1, levels)), each_off, mixed]).astype(np.float32)


@contextmanager
def scaled_skips(graph: ModelGraph, gains: NDArray[np.float32]) -> Iterator[None]:
    """Multiply what reaches each long skip of every net by ``gains`` ``[N, levels]`` meanwhile."""

    def scale(level: int) -> Any:
        factor = torch.from_numpy(gains[:, level, None, None, None].copy())

        def hook(_skip: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            decoder, encoder = inputs
            return decoder, encoder * factor

        return hook

    hooks = [
        skip.register_forward_pre_hook(scale(level))
        for net in (graph.net, *graph.more_nets)
        for level, skip in enumerate(cast(nn.ModuleList, net.skips))
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _check_none(
    turned: dict[str, NDArray[Any]], loose: dict[str, NDArray[Any]], where: str
) -> None:
    for name, answers in turned.items():
        if not np.array_equal(answers, loose[name]):
            raise ExportWrong(f"at {where} the gain of a level without a skip changes {name}")
