"""What a GPU is to be made ready for when a model is opened; on a CPU it changes nothing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_thread = ThreadPoolExecutor(1, thread_name_prefix="gpu")


@dataclass(frozen=True)
class GpuUse:
    """How a model will be used on a GPU.

    Attributes:
        warm_shapes_hw: sizes of images, height and width in pixels, that it is to be quick for.
        max_batch: most images in one run.
        engine_cache: folder in which TensorRT keeps what it builds; without one it builds at each
            start.
        cuda_graphs: on CUDA, record a run of each of these sizes and play it again. ``device`` has
            to be ``cuda``.
    """

    warm_shapes_hw: tuple[tuple[int, int], ...] = ()
    max_batch: int = 1
    engine_cache: Path | None = None
    cuda_graphs: bool = False


NO_PLANS = GpuUse()


def in_gpu_thread(work: Callable[[], T]) -> T:
    """Do work in the one thread of the process that uses a GPU with CUDA graphs.

    CUDA refuses to record while another thread takes memory on the GPU, and onnxruntime plays a
    recorded run only in the thread that recorded it.
    """
    return _thread.submit(work).result()
