"""The proof of an export: onnxruntime must answer as PyTorch does, at sizes never traced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from contract.decision import tie_margin
from contract.errors import LongskipError
from contract.golden import golden_input
from contract.model import Model
from training.graph.assemble import ModelGraph

# (H, W) in pixels: one pixel, odd, prime, below and above any divisor, long and thin.
PROOF_SIZES: tuple[tuple[int, int], ...] = (
    (1, 1), (33, 47), (64, 64), (97, 131), (250, 300), (512, 37), (7, 260),
)  # fmt: skip
PROOF_BATCHES = (1, 3)
# Probabilities lie in 0..1, so this is relative to full scale. Rounding alone gave at most 5e-6.
MAX_PROBABILITY_ERROR = 1e-4
# An entropy changes by up to ln(p) times as much as its probability.
MAX_DISAGREEMENT_ERROR_NATS = 1e-3
# Where the two best classes lie closer than this, rounding may decide either way.
TIE_MARGIN = 1e-3
# Pictures are put together from tiles of this side: drawn at once, a large golden input's blobs
# overlap to one white surface (99 % of 250 x 300 px), on which no label is in doubt.
DRAWN_SIDE = 64


class ExportWrong(LongskipError):
    """The exported file does not answer as the checkpoint does."""


@dataclass(frozen=True)
class Proof:
    """What the comparison found over all sizes and batches."""

    cases: int
    max_probability_error: float
    labels_differing_at_ties: int


def prove_parity(
    graph: ModelGraph,
    model: Model,
    *,
    intensity_range: tuple[float, float],
    sizes: Sequence[tuple[int, int]] = PROOF_SIZES,
) -> Proof:
    """Compare ``graph`` with the file opened as ``model`` on synthetic pictures.

    Raises:
        ExportWrong: a shape, a probability or a label differs; the text says where.
    """
    worst, ties, cases = 0.0, 0, 0
    bar = tqdm(sizes, desc="proving", unit="size", disable=None)
    for size_index, size in enumerate(bar):
        for batch in PROOF_BATCHES:
            seeds = [97 * size_index + index for index in range(batch)]
            image = proof_batch(seeds, model.spec.channels, size, intensity_range)
            with torch.inference_mode():
                expected = [answer.numpy() for answer in graph(torch.from_numpy(image))]
            answer = model.run(image, outputs=graph.outputs)
            where = f"{size[0]}x{size[1]}, batch {batch}"
            error, differing = compare(model, graph.outputs, expected, answer, where=where)
            worst, ties, cases = max(worst, error), ties + differing, cases + 1
    return Proof(cases=cases, max_probability_error=worst, labels_differing_at_ties=ties)


def compare(
    model: Model,
    outputs: Sequence[str],
    expected: Sequence[NDArray[Any]],
    answer: Mapping[str, NDArray[Any]],
    *,
    where: str,
) -> tuple[float, int]:
    """Hold one answer of the file against the checkpoint's.

    Args:
        model: the file.
        outputs: the names of what is compared.
        expected: the checkpoint's, in the same order: labels, probabilities and so on.
        answer: the file's, by name.
        where: the case, for the text of an error.

    Returns:
        The largest error of a probability, and how many labels differ (all of them at ties).

    Raises:
        ExportWrong: a shape, a probability or a label differs.
    """
    labels, probabilities = expected[:2]
    for name, own in zip(outputs, expected, strict=True):
        if answer[name].shape != own.shape:
            raise ExportWrong(
                f"at {where} the file's {name} have shape {list(answer[name].shape)}, "
                f"the checkpoint's {list(own.shape)}; this architecture does not export"
            )
    if "disagreement" in answer:
        nats = float(np.abs(answer["disagreement"] - expected[2]).max())
        if not nats <= MAX_DISAGREEMENT_ERROR_NATS:
            raise ExportWrong(
                f"at {where} the file's disagreement is off by {nats:.2g} nats (allowed "
                f"{MAX_DISAGREEMENT_ERROR_NATS:g}); these nets do not export together"
            )
    error = float(np.abs(answer["probabilities"] - probabilities).max())
    if not error <= MAX_PROBABILITY_ERROR:  # NaN is wrong, too
        raise ExportWrong(
            f"at {where} the file's probabilities are off by {error:.2g} (allowed "
            f"{MAX_PROBABILITY_ERROR:g}); this architecture does not export"
        )
    differing = answer["labels"] != labels
    margin = tie_margin(probabilities, model.spec.task, model.spec.thresholds_prob)
    real = differing & (margin > TIE_MARGIN)
    if real.any():
        raise ExportWrong(
            f"at {where} {int(real.sum())} labels differ that are no ties; this "
            "architecture does not export"
        )
    return error, int(differing.sum())


def proof_batch(
    seeds: Sequence[int],
    channels: int,
    size: tuple[int, int],
    intensity_range: tuple[float, float],
) -> NDArray[np.float32]:
    """Return one synthetic picture per seed, ``[N, C, H, W]``, dark and bright at every size."""
    drawn_shape = (channels, DRAWN_SIDE, DRAWN_SIDE)
    drawn = np.stack([golden_input(seed, drawn_shape, intensity_range) for seed in seeds])
    down, across = (-(-side // DRAWN_SIDE) for side in size)
    tiled: NDArray[np.float32] = np.tile(drawn, (1, 1, down, across))[..., : size[0], : size[1]]
    return np.ascontiguousarray(tiled)
