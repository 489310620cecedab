"""The golden sample: a made picture and its stored answer, by which a model proves itself.

The picture is drawn from a seed, so only the answer is stored and no patient's image travels in
the file. It is the same on every platform: raw PCG64 words (a stream that NumPy keeps stable,
unlike its distributions) and arithmetic on integers.
"""

import base64
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from contract.decision import tie_margin
from contract.errors import GoldenMismatch
from contract.spec import GoldenSample, Precision, Tolerance

if TYPE_CHECKING:
    from contract.model import Model

OUTPUTS = ("labels", "probabilities")

RunBoth = Callable[[NDArray[np.float32]], Mapping[str, NDArray[Any]]]
"""Raw intensities ``[1, C, H, W]`` to ``labels`` and ``probabilities`` with their batch axis."""

# fp16 holds probabilities to 2.4e-4, so no tolerance below that can be met.
DEFAULT_TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(probability_max_abs=2e-3, tie_margin=4e-3),
    "fp16": Tolerance(probability_max_abs=2e-2, tie_margin=4e-2),
    "int8": Tolerance(probability_max_abs=5e-2, tie_margin=1e-1),
}

# The picture is made on this many grey levels, then stretched to the intensity range.
LEVELS = 1024
BLOB_PIXELS = 400
NOISE_LEVELS = 64


def golden_input(
    seed: int, shape_chw: tuple[int, int, int], intensity_range: tuple[float, float]
) -> NDArray[np.float32]:
    """Draw smooth blobs with noise on a level ground.

    Args:
        seed: any integer >= 0; the same seed gives the same picture everywhere.
        shape_chw: channels and size in pixels.
        intensity_range: lowest and highest raw intensity, e.g. (0, 255). Intensities are whole
            numbers where the range spans 64 or more, as they are in an image.

    Returns:
        float32 ``[C, H, W]``.
    """
    channels, height, width = shape_chw
    words = np.random.PCG64(seed)
    blob_count = max(3, height * width // BLOB_PIXELS)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.int64)
    levels = np.full((channels, height, width), LEVELS // 8, dtype=np.int64)
    for _ in range(blob_count):
        top, left, size, *heights = _draw(words, 3 + channels)
        squared_radius = (3 + size % max(1, min(height, width) // 4)) ** 2
        squared_distance = (rows - top % height) ** 2 + (columns - left % width) ** 2
        bump = np.maximum(squared_radius - squared_distance, 0)
        for channel, height_word in enumerate(heights):
            levels[channel] += (LEVELS // 4 + height_word % LEVELS) * bump // squared_radius
    noise = np.array(_draw(words, levels.size)).reshape(levels.shape)
    levels = np.clip(levels + noise % NOISE_LEVELS, 0, LEVELS - 1)
    low, high = intensity_range
    stretched = low + levels * ((high - low) / (LEVELS - 1))
    if high - low >= 64:
        stretched = np.rint(stretched)
    picture: NDArray[np.float32] = stretched.astype(np.float32)
    return picture


def make_golden(
    run: RunBoth,
    seed: int,
    shape_chw: tuple[int, int, int],
    intensity_range: tuple[float, float],
    tolerances: Mapping[Precision, Tolerance] = DEFAULT_TOLERANCES,
) -> GoldenSample:
    """Run the picture once and store the answer.

    Args:
        run: usually ``functools.partial(model.run, outputs=OUTPUTS)``.
        seed: of the picture.
        shape_chw: channels and size of the picture; 64 x 64 to 128 x 128 keeps the file small.
        intensity_range: raw intensities that the net was trained on.
        tolerances: by precision of the file that is checked.
    """
    image = golden_input(seed, shape_chw, intensity_range)
    answer = run(image[None])
    return GoldenSample(
        seed=seed,
        shape_chw=shape_chw,
        intensity_range=intensity_range,
        labels_b64=_pack(answer["labels"][0].astype(np.uint8)),
        probabilities_b64=_pack(answer["probabilities"][0].astype("<f2")),
        tolerances=dict(tolerances),
    )


def check_golden(model: "Model") -> None:
    """Run the golden sample on the provider in use and compare.

    Raises:
        GoldenMismatch: there is no sample, or the answer lies outside the tolerance.
    """
    golden = model.spec.golden
    if golden is None:
        raise GoldenMismatch(
            f"{model.path} carries no golden sample, so it cannot be proved. Export it again, or "
            "let python -m contract adopt make one."
        )
    tolerance = golden.tolerances.get(model.precision)
    if tolerance is None:
        raise GoldenMismatch(
            f"{model.path}: the golden sample has no tolerance for {model.precision}, only for "
            f"{sorted(golden.tolerances)}. Export it again."
        )
    image = golden_input(golden.seed, golden.shape_chw, golden.intensity_range)
    answer = model.run(image[None], outputs=OUTPUTS)
    labels, probabilities = answer["labels"][0], answer["probabilities"][0]
    stored = _unpack(golden.probabilities_b64, "<f2", probabilities.shape).astype(np.float32)
    stored_labels = _unpack(golden.labels_b64, "u1", labels.shape)
    place = f"{model.path} on {model.provider}"
    worst = float(np.abs(probabilities - stored).max())
    if not worst <= tolerance.probability_max_abs:  # NaN fails too
        raise GoldenMismatch(
            f"{place}: the golden sample's probabilities are off by {worst:.2g}, allowed are "
            f"{tolerance.probability_max_abs:.2g}. The file or this provider is not to be trusted."
        )
    flipped = (labels != stored_labels) & (
        tie_margin(stored, model.spec.task, model.spec.thresholds_prob) > tolerance.tie_margin
    )
    if flipped.any():
        raise GoldenMismatch(
            f"{place}: {int(flipped.sum())} of the golden sample's {flipped.size} labels differ "
            "where there is no tie. The file or this provider is not to be trusted."
        )


def _draw(words: np.random.PCG64, count: int) -> list[int]:
    # The high half of each word: small enough for int64 arithmetic, and the better bits.
    return [int(word) >> 33 for word in np.atleast_1d(words.random_raw(count))]


def _pack(array: NDArray[Any]) -> str:
    # Level 9 of one zlib; another zlib may pack differently, but never unpack differently.
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode("ascii")


def _unpack(text: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=dtype).reshape(shape)
    except (ValueError, zlib.error) as error:
        raise GoldenMismatch(
            f"the stored golden answer does not unpack to {dtype} {list(shape)}: {error}. "
            "Export the model again."
        ) from error
