"""How a model runs on a GPU: all inputs fed, no more than an engine takes, arrays kept there."""

import math

import numpy as np
import onnxruntime as ort

from contract.feeds import whole_feeds
from contract.gpu.kept import KeptRuns
from contract.gpu.tensorrt import EngineShapes
from contract.run import Arrays, empty_answer
from contract.spec import ModelSpec


class GpuRuns:
    """Runs one opened file on a GPU.

    Attributes:
        engine: the shapes that TensorRT's engine takes; None on CUDA.
        kept: the session, and arrays that stay on the GPU.
    """

    def __init__(
        self,
        kept: KeptRuns,
        spec: ModelSpec,
        *,
        takes_statistics: bool,
        engine: EngineShapes | None = None,
    ) -> None:
        self.engine = engine
        self.kept = kept
        self._spec = spec
        self._takes_statistics = takes_statistics

    @property
    def may_shrink(self) -> bool:
        """Whether memory may be handed back: not where a recorded run goes on to use it."""
        return not self.kept.graphs

    def takes(self, size: tuple[int, ...]) -> bool:
        """Whether images of these sides can be run."""
        return self.engine is None or self.engine.takes(size)

    def check(self, size: tuple[int, ...]) -> None:
        """Check that images of these sides can be run.

        Raises:
            ImageTooLarge: they cannot.
        """
        if self.engine is not None:
            self.engine.check(size, name=self._spec.name)

    def run(self, feeds: Arrays, answers: Arrays, options: ort.RunOptions) -> Arrays:
        """Run once; arguments and errors are those of ``contract.run.run_session``."""
        feeds = self._whole(feeds)
        images = len(feeds["image"])
        if self.engine is None or images <= self.engine.batch:
            return self.kept.run(feeds, answers, options)
        for rows in self.engine.parts(images):
            some, wanted = (
                {name: array[rows] for name, array in arrays.items()} for arrays in (feeds, answers)
            )
            for name, array in self.kept.run(some, wanted, options).items():
                answers[name][rows] = array
        return answers

    def keep(self, size_hw: tuple[int, int], *, max_batch: int) -> None:
        """Run images of a size in every batch that may come, and keep arrays for them there.

        Raises:
            DeviceUnavailable: the runs cannot be recorded as CUDA graphs.
        """
        most = self._spec.whole_image_max_pixels // math.prod(size_hw)
        if self.engine is not None:
            most = min(most, self.engine.batch)
        for batch in range(1, max(1, min(most, max_batch)) + 1):
            image = np.zeros((batch, self._spec.channels, *size_hw), np.float32)
            feeds = self._whole({"image": image})
            answers = {"labels": empty_answer(self._spec, "labels", image.shape)}
            self.kept.keep(feeds, answers)
            self.kept.run(feeds, answers, ort.RunOptions())

    def hand_memory_back(self, feeds: Arrays, options: ort.RunOptions) -> None:
        """Run next to nothing with options that hand memory back, where that may be."""
        if self.may_shrink:
            self.kept.session.run(["labels"], self._whole(feeds), options)

    def _whole(self, feeds: Arrays) -> Arrays:
        return whole_feeds(
            self._spec,
            feeds,
            takes_statistics=self._takes_statistics,
            own_statistics=self.engine is not None,
        )
