"""What a GPU is to be made ready for when a model is opened; on a CPU it changes nothing."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class GpuUse:
    """How a model will be used on a GPU.

    Attributes:
        warm_shapes_hw: sizes of images, height and width in pixels, that it is to be quick for.
        max_batch: most images in one run.
        engine_cache: folder in which TensorRT keeps what it builds; without one it builds at each
            start.
    """

    warm_shapes_hw: tuple[tuple[int, int], ...] = ()
    max_batch: int = 1
    engine_cache: Path | None = None


NO_PLANS = GpuUse()
