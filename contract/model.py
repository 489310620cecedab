"""A model file that was opened, checked against the contract, and can be run.

``Model.segment`` is the one way from an image to its labels; ``evaluate`` and the service share it.
"""

import contextlib
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from contract.decision import labels_of
from contract.errors import (
    ImageTooLarge,
    ModelBroken,
    OutOfMemory,
    RequestInvalid,
    RunHalted,
)
from contract.feeds import check_image, check_outputs, checked_statistics
from contract.golden import check_golden
from contract.gpu.kept import KeptRuns
from contract.gpu.runs import GpuRuns
from contract.gpu.tensorrt import plan_engine
from contract.gpu.use import NO_PLANS, GpuUse
from contract.halt import Halt
from contract.heap import trim_heap
from contract.interface import check_interface
from contract.metadata import read_metadata
from contract.run import empty_answer, run_session
from contract.session import (
    CPU_PROVIDER,
    SHRINK_FROM_PIXELS,
    Device,
    is_out_of_memory,
    open_session,
    run_options,
)
from contract.skip_gain import checked_rows
from contract.spec import ModelSpec, Precision
from contract.statistics import image_statistics
from contract.tiling import Progress, blend_bands

Intensities = NDArray[Any]
"""Raw intensities as decoded: uint8, uint16 or float32."""


@dataclass(frozen=True)
class Segmentation:
    """The answer for one image.

    Attributes:
        labels: uint8 ``[H, W]`` class indices; multilabel ``[K, H, W]`` of 0/1.
        probabilities: float32 ``[K, H, W]``, or None where they were not asked for.
        tiled: whether the image was cut into tiles.
        disagreement: of the members, in nats, float32 shaped as ``labels``; None where
            probabilities were not asked for or the file does not give it.
    """

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None
    tiled: bool
    disagreement: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)  # one opened file is equal to itself only
class Model:
    """An opened model file.

    Attributes:
        path: where the file lies.
        spec: what it promises.
        sha256: of the file's bytes, in hex.
        provider: what it really runs on, e.g. ``CPUExecutionProvider``.
        takes_statistics: whether the graph has the optional input ``statistics``.
        on_gpu: runs it there; None on the CPU.
    """

    path: Path
    spec: ModelSpec = field(repr=False)
    sha256: str
    provider: str
    takes_statistics: bool
    session: ort.InferenceSession = field(repr=False)
    on_gpu: GpuRuns | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        device: Device = "auto",
        threads: int | None = None,
        prove: bool = True,
        gpu: GpuUse = NO_PLANS,
    ) -> Self:
        """Open a file and check it against the contract.

        Args:
            path: the ``.onnx`` file.
            device: see ``contract.session.open_session``.
            threads: CPU threads per run.
            prove: also run the golden sample on the provider in use.
            gpu: how it will be used where it runs on a GPU.

        Raises:
            ModelNotFound: there is no such file.
            ModelBroken: it is no ONNX model, its inputs and outputs are off the contract, or it
                changed meanwhile.
            SpecMissing, SpecInvalid, SpecTooNew: the spec cannot be used.
            DeviceUnavailable: the device asked for cannot be used here.
            GoldenMismatch: the stored answer did not come back.
        """
        path = Path(path)
        before, source = _identity(path), str(path)
        engine = None
        if device == "tensorrt":
            engine = plan_engine(
                path, ModelSpec.from_metadata(read_metadata(path), source=source), gpu
            )
        graphs = gpu.cuda_graphs and device == "cuda"
        session = open_session(
            path, device=device, threads=threads, engine=engine, cuda_graphs=graphs
        )
        spec = ModelSpec.from_metadata(session.get_modelmeta().custom_metadata_map, source=source)
        takes_statistics = check_interface(
            session, spec, source=source, all_required=engine is not None
        )
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if _identity(path) != before:  # the sum could be of one file and the session of another
            raise ModelBroken(f"{path} changed while it was opened; open it again")
        provider = session.get_providers()[0]
        on_gpu = None
        if provider != CPU_PROVIDER:
            on_gpu = GpuRuns(
                KeptRuns(session, graphs=graphs),
                spec,
                takes_statistics=takes_statistics,
                engine=None if engine is None else engine.shapes,
            )
        model = cls(path, spec, sha256, provider, takes_statistics, session, on_gpu)
        if prove:
            check_golden(model)
        return model

    @property
    def precision(self) -> Precision:
        """Number format of the weights."""
        return self.spec.precision

    @property
    def outputs(self) -> tuple[str, ...]:
        """All that the file answers: labels, probabilities, and of some disagreement."""
        optional = [o.name for o in self.session.get_outputs() if o.name == "disagreement"]
        return ("labels", "probabilities", *optional)

    def run(
        self,
        image_nchw: NDArray[np.float32],
        *,
        statistics: NDArray[np.float32] | None = None,
        skip_gain: NDArray[np.float32] | None = None,
        outputs: Sequence[str] = ("labels",),
        halt: Halt | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run the graph once on a batch of images of equal size.

        Args:
            image_nchw: raw intensities, float32 ``[N, C, H, W]`` (3-D: ``[N, C, D, H, W]``).
            statistics: mean and std, float32 ``[1 or N, C, 2]``; None or NaN means each image's
                own.
            skip_gain: a factor per level on each long skip, finest first, float32
                ``[1 or N, levels]``; None leaves them as they were trained. Only for files that
                were exported with it (``spec.skip_gain_strides``).
            outputs: which of ``self.outputs`` to compute and fetch.
            halt: ends the run when it is asked to.

        Returns:
            One array per output: labels uint8 ``[N, H, W]`` (multilabel ``[N, K, H, W]``),
            probabilities float32 ``[N, K, H, W]``, disagreement float32 shaped as labels.

        Raises:
            RequestInvalid: wrong type or number of axes, or an output that there is not.
            ChannelMismatch: another number of channels than the model takes.
            ImageTooLarge: the sides are past those that TensorRT's engine was built for.
            OutOfMemory: the run needs more than there is; what it took was handed back.
            RunHalted: ``halt`` was asked to end it.
            ModelBroken: the graph failed.
        """
        check_image(self.spec, image_nchw, axes="NCDHW" if self.spec.dims == 3 else "NCHW")
        if outputs != ("labels",):
            check_outputs(outputs, self.outputs)
        feeds = {"image": np.ascontiguousarray(image_nchw)}
        if statistics is not None:
            feeds["statistics"] = checked_statistics(
                self.spec, statistics, batch=len(image_nchw), taken=self.takes_statistics
            )
        if skip_gain is not None:
            feeds["skip_gain"] = checked_rows(self.spec, skip_gain, batch=len(image_nchw))
        if self.on_gpu is not None:
            self.on_gpu.check(image_nchw.shape[2:])
        answers = {name: empty_answer(self.spec, name, image_nchw.shape) for name in outputs}
        pixels = image_nchw.size // self.spec.channels
        may_shrink = self.on_gpu is None or self.on_gpu.may_shrink
        options = run_options(self.provider, pixels=pixels if may_shrink else 0)
        if halt is not None:
            halt.watch(options)
        try:
            if self.on_gpu is not None:
                return self.on_gpu.run(feeds, answers, options)
            return run_session(self.session, feeds, answers, options)
        except Exception as error:  # onnxruntime's classes share no root of their own
            if halt is not None and halt.asked:
                raise RunHalted("the run was ended before its answer was there") from error
            if is_out_of_memory(error):
                self.hand_memory_back()
                raise OutOfMemory(
                    f"a run of {self.spec.name} on {list(image_nchw.shape)} needs more memory than "
                    "there is now; send the image again in a moment, or a smaller one"
                ) from error
            raise ModelBroken(
                f"{self.path} failed on an input {list(image_nchw.shape)}, or its answer does "
                f"not have that size: {error}"
            ) from error

    def warm_up(self, shapes_hw: Sequence[tuple[int, int]], *, max_batch: int) -> None:
        """Run images of these sizes, so that the first request waits for no choice of kernels.

        On a GPU in batches up to ``max_batch``, for which arrays are kept there. A size that the
        model takes in tiles only is left out; of a model for volumes all are.

        Raises:
            DeviceUnavailable: the runs cannot be recorded as CUDA graphs.
        """
        for height, width in shapes_hw:
            if self.spec.dims == 2 and self._takes_whole(height, width):
                if self.on_gpu is not None:
                    self.on_gpu.keep((height, width), max_batch=max_batch)
                self.run(np.zeros((1, self.spec.channels, height, width), np.float32))

    def segment(
        self,
        image_chw: Intensities,
        *,
        probabilities: bool = False,
        skip_gain: Sequence[float] | None = None,
        progress: Progress | None = None,
        in_tiles: bool = False,
        halt: Halt | None = None,
    ) -> Segmentation:
        """Segment one image, in tiles where it is past the model's whole-image limit.

        Args:
            image_chw: raw intensities as decoded, ``[C, H, W]``, any size >= 1, float32 or the
                file's own uint8 or uint16: of an image that is tiled, only tiles are turned into
                float32, which takes four times the memory of uint8.
            probabilities: also return them, and the disagreement where the file gives it; they
                are 4 K times the labels' bytes.
            skip_gain: a factor per level on each long skip, finest first, the same for all tiles;
                see ``run``.
            progress: called with (tiles done, tiles in all) where the image is tiled.
            in_tiles: tile it below the limit, too, where there is no memory for it whole.
            halt: ends the work when it is asked to, between two tiles or within one.

        Raises:
            OutOfMemory: a run needs more than there is.
            RunHalted: ``halt`` was asked to end it.
            RequestInvalid: wrong type or number of axes, or gains that the model does not take.
            ChannelMismatch: another number of channels than the model takes.
            ImageTooLarge: past the limit, and the model cannot be tiled.
        """
        if self.spec.dims != 2:
            raise RequestInvalid(f"{self.spec.name} takes volumes; segment() takes 2-D images")
        check_image(self.spec, image_chw, axes="CHW", dtypes=(np.float32, np.uint8, np.uint16))
        height, width = image_chw.shape[1:]
        rows = None if skip_gain is None else np.array([skip_gain], np.float32)
        if in_tiles or not self._takes_whole(height, width):
            return self._segment_tiled(image_chw, probabilities, rows, progress, halt)
        outputs = self.outputs if probabilities else ("labels",)
        image_nchw = image_chw[None].astype(np.float32, copy=False)
        answer = self.run(image_nchw, skip_gain=rows, outputs=outputs, halt=halt)
        return Segmentation(
            labels=answer["labels"][0],
            probabilities=answer["probabilities"][0] if probabilities else None,
            tiled=False,
            disagreement=answer["disagreement"][0] if "disagreement" in answer else None,
        )

    def _takes_whole(self, height: int, width: int) -> bool:
        fits = height * width <= self.spec.whole_image_max_pixels
        return fits and (self.on_gpu is None or self.on_gpu.takes((height, width)))

    def _segment_tiled(
        self,
        image_chw: Intensities,
        probabilities: bool,
        skip_gain: NDArray[np.float32] | None,
        progress: Progress | None,
        halt: Halt | None,
    ) -> Segmentation:
        spec = self.spec
        height, width = image_chw.shape[1:]
        if spec.tiles is None:
            if self.on_gpu is not None:
                self.on_gpu.check((height, width))
            raise ImageTooLarge(
                f"the image has {height} x {width} = {height * width} pixels; {spec.name} takes "
                f"{spec.whole_image_max_pixels} and cannot be tiled. Send a smaller image."
            )
        n_classes = len(spec.classes)
        statistics = image_statistics(image_chw)[None] if self.takes_statistics else None
        if statistics is not None and not np.isfinite(statistics).all():
            raise RequestInvalid("the image holds NaN or infinite intensities; replace them first")

        planes = (n_classes,) if spec.task == "multilabel" else ()
        outputs = self.outputs[1:] if probabilities else ("probabilities",)
        # Blended like one more class: by the same weights, which probabilities do not notice.
        n_planes = n_classes + (len(outputs) - 1) * math.prod(planes)

        def run_tile(tile_chw: NDArray[np.float32]) -> NDArray[np.float32]:
            answer = self.run(
                tile_chw[None],
                statistics=statistics,
                skip_gain=skip_gain,
                outputs=outputs,
                halt=halt,
            )
            stacked = [answer[name].reshape(-1, *tile_chw.shape[1:]) for name in outputs]
            return stacked[0] if len(stacked) == 1 else np.concatenate(stacked)

        labels = np.empty((*planes, height, width), dtype=np.uint8)
        kept = np.empty((n_planes, height, width), dtype=np.float32) if probabilities else None
        bands = blend_bands(image_chw, run_tile, spec.tiles, n_classes=n_planes, progress=progress)
        for band in bands:
            rows = slice(band.top, band.top + band.probabilities.shape[1])
            blended = band.probabilities[:n_classes]
            labels[..., rows, :] = labels_of(blended, spec.task, spec.thresholds_prob)
            if kept is not None:
                kept[:, rows] = band.probabilities
        disagreement = None
        if kept is not None and n_planes > n_classes:
            disagreement = kept[n_classes:].reshape(labels.shape)
        return Segmentation(
            labels=labels,
            probabilities=None if kept is None else kept[:n_classes],
            tiled=True,
            disagreement=disagreement,
        )

    def hand_memory_back(self) -> None:
        """Run next to nothing, with the order to hand back what no run needs now.

        Otherwise runs below ``SHRINK_FROM_PIXELS`` keep it for good, also those that failed for
        want of more: 260 MB in place of 98 after one of 900 x 900.
        """
        nothing = np.zeros((1, self.spec.channels, *(1,) * self.spec.dims), np.float32)
        options = run_options(self.provider, pixels=SHRINK_FROM_PIXELS)
        with contextlib.suppress(Exception):  # too little memory even for that
            if self.on_gpu is not None:
                self.on_gpu.hand_memory_back({"image": nothing}, options)
            else:
                self.session.run(["labels"], {"image": nothing}, options)
        trim_heap()


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return what tells a file from one that takes its place; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
