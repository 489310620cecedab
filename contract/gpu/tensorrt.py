"""TensorRT: for which shapes its engine is built, where engines are kept, and from what file.

Its engine takes shapes within a box that is fixed when it is built, which can take minutes. Without
a box onnxruntime widens one with each image that lies outside, and builds anew while the request
waits, so whoever sends images of ever other sizes could keep it building.
"""

import ctypes
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnxruntime as ort

from contract.errors import DeviceUnavailable, ImageTooLarge
from contract.gpu.use import GpuUse
from contract.optional_inputs import require_inputs
from contract.spec import ModelSpec

LIBRARY = "libnvinfer.so.10"

# Of weakly typed networks TensorRT chooses types itself, and raw intensities do not fit into fp16.
# Without trt_fp16_enable onnxruntime builds strongly typed ones: each tensor has the file's type.


@dataclass(frozen=True)
class EngineShapes:
    """The images that an engine takes: from a single pixel up to a box.

    Attributes:
        batch: most images in one run.
        largest: sides in pixels, ``(H, W)``; 3-D ``(D, H, W)``.
        usual: sides that it is to be quickest for.
    """

    batch: int
    largest: tuple[int, ...]
    usual: tuple[int, ...]

    def takes(self, size: Sequence[int]) -> bool:
        """Whether an image of these sides lies within the box."""
        return all(side <= most for side, most in zip(size, self.largest, strict=True))

    def check(self, size: Sequence[int], *, name: str) -> None:
        """Check that an image lies within the box.

        Raises:
            ImageTooLarge: it does not.
        """
        if not self.takes(size):
            asked, most = (" x ".join(map(str, sides)) for sides in (size, self.largest))
            raise ImageTooLarge(
                f"the image has {asked} pixels; the TensorRT engine of {name} was built for up to "
                f"{most}. Send a smaller image, or have it built for larger ones"
            )

    def parts(self, batch: int) -> Iterator[slice]:
        """Yield the rows of a batch that may run together, in order."""
        for start in range(0, batch, self.batch):
            yield slice(start, min(start + self.batch, batch))


def engine_shapes(spec: ModelSpec, use: GpuUse) -> EngineShapes:
    """Return the box for a model, which needs no more memory than one image of the box's sides.

    Its sides are the largest of the warm shapes that the model takes whole, of its tile and of its
    golden sample; without warm shapes also those of the largest square image. As many images run
    together as have no more pixels than the model takes as one.
    """
    limit = spec.whole_image_max_pixels
    square = (math.floor(limit ** (1 / spec.dims) + 1e-9),) * spec.dims
    sizes: list[tuple[int, ...]] = []
    if spec.dims == 2:
        sizes += [hw for hw in use.warm_shapes_hw if math.prod(hw) <= limit]
        patch = [spec.tiles.patch] if spec.tiles is not None else []
        golden = [spec.golden.shape_chw[1:]] if spec.golden is not None else []
        sizes = [*sizes, *patch, *golden] if sizes else [*patch, square, *golden]
    sizes = sizes or [square]
    largest = tuple(max(sides) for sides in zip(*sizes, strict=True))
    batch = max(1, min(use.max_batch, limit // math.prod(largest)))
    return EngineShapes(batch, largest, usual=sizes[0])


@dataclass(frozen=True)
class EnginePlan:
    """What a session on TensorRT is opened with.

    Attributes:
        model: bytes of the file, its optional inputs made inputs that each run is fed with.
        options: of the provider.
        shapes: that the engine takes.
    """

    model: bytes = field(repr=False)
    options: Mapping[str, str]
    shapes: EngineShapes


def plan_engine(path: Path, spec: ModelSpec, use: GpuUse) -> EnginePlan:
    """Plan the engine of a model file.

    Raises:
        ModelBroken: it is no whole ONNX file.
        DeviceUnavailable: the folder for engines cannot be written.
    """
    content = path.read_bytes()
    model, inputs = require_inputs(content, source=str(path))
    shapes = engine_shapes(spec, use)
    options = _profile(spec, shapes, inputs)
    if use.engine_cache is not None:
        options |= _cache(use.engine_cache, hashlib.sha256(content).hexdigest())
    return EnginePlan(model, options, shapes)


def _profile(spec: ModelSpec, shapes: EngineShapes, inputs: Sequence[str]) -> dict[str, str]:
    """Return the options that give the box; onnxruntime wants all inputs in it, or none."""
    ends = {
        "min": (1, (1,) * spec.dims),
        "opt": (shapes.batch, shapes.usual),
        "max": (shapes.batch, shapes.largest),
    }
    rows = {"statistics": (spec.channels, 2), "skip_gain": (len(spec.skip_gain_strides),)}
    options = {}
    for end, (batch, size) in ends.items():
        found = {"image": (batch, spec.channels, *size)}
        found |= {name: (batch, *rows[name]) for name in inputs}
        options[f"trt_profile_{end}_shapes"] = ",".join(
            f"{name}:{'x'.join(map(str, shape))}" for name, shape in found.items()
        )
    return options


def _cache(folder: Path, sha256: str) -> dict[str, str]:
    """Return the options for engines kept in a folder of their own for each file.

    onnxruntime tells engines apart by the graph, not by its weights, and fails to open one that
    another version of TensorRT wrote. How long a kernel took holds for all files.
    """
    versions = f"onnxruntime-{ort.__version__}-tensorrt-{_tensorrt_version()}"
    timings = folder.resolve() / versions
    engines = timings / sha256
    try:
        engines.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeviceUnavailable(
            f"TensorRT's engines cannot be kept in {folder}: {error.strerror}. Give a folder that "
            "can be written, or none"
        ) from error
    return {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(timings),
    }


def _tensorrt_version() -> int:
    """Return TensorRT's own number, such as 101301, or 0 where it is not found."""
    try:
        return int(ctypes.CDLL(LIBRARY).getInferLibVersion())
    except OSError:
        return 0
