"""Arrays that stay on a GPU for images of some sizes: each run fills and reads the same ones.

Other runs set memory aside there for their images and answers, every time. A CUDA graph needs them
to stay: it is a run that was recorded, with all its addresses, and is played again as a whole.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import onnxruntime as ort
from numpy.typing import NDArray

from contract.errors import DeviceUnavailable
from contract.gpu.use import in_gpu_thread
from contract.run import Arrays, run_session
from contract.session import is_out_of_memory

# One of 8 x 512 x 512 RGB images with their labels takes 27 MB.
MOST_KEPT = 32
# onnxruntime's number for a run that is neither recorded nor played; 0 is what it takes for none.
NOT_RECORDED = -1
# What a run fetches only once, such as memory, must be there before one is recorded.
RUNS_BEFORE_RECORDING = 2

T = TypeVar("T")
Key = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of all inputs and outputs."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Kept:
    inputs: Mapping[str, ort.OrtValue]
    outputs: tuple[str, ...]
    binding: Any
    number: int


class KeptRuns:
    """Runs a session on a GPU, by arrays that stay there where some were kept for their shapes.

    Attributes:
        session: opened.
        graphs: whether runs with kept arrays are recorded as CUDA graphs. All runs then share one
            thread, and no memory may be handed back: a recorded run goes on to use it.
    """

    def __init__(
        self, session: ort.InferenceSession, *, device: str = "cuda", graphs: bool = False
    ) -> None:
        self.session = session
        self.graphs = graphs
        self._device = device
        self._kept: dict[Key, _Kept] = {}
        self._filled = threading.Lock()

    def keep(self, feeds: Arrays, answers: Arrays) -> None:
        """Keep arrays for runs of these shapes, for at most ``MOST_KEPT`` of them.

        Args:
            feeds: all inputs of the graph.
            answers: empty arrays for the outputs wanted.

        Raises:
            DeviceUnavailable: the run cannot be recorded.
        """
        key = _key(feeds, answers)
        if key in self._kept or len(self._kept) >= MOST_KEPT:
            return
        try:
            self._kept[key] = self._alone(lambda: self._make(feeds, answers))
        except Exception as error:  # onnxruntime's classes share no root of their own
            if is_out_of_memory(error):
                _log.warning("the GPU has no memory to keep arrays of %s on it", key)
                return
            if not self.graphs:
                raise
            raise DeviceUnavailable(
                f"onnxruntime cannot record a run as a CUDA graph: {error}. Turn CUDA graphs off"
            ) from error

    def run(self, feeds: Arrays, answers: Arrays, options: ort.RunOptions) -> Arrays:
        """Run once; arguments and errors are those of ``contract.run.run_session``."""
        kept = self._kept.get(_key(feeds, answers))
        if self.graphs:
            _number(options, NOT_RECORDED if kept is None else kept.number)
        if kept is not None:
            return self._alone(partial(_fill_and_run, self.session, kept, feeds, options))
        run = partial(run_session, self.session, feeds, answers, options)
        return in_gpu_thread(run) if self.graphs else run()

    def _alone(self, work: Callable[[], T]) -> T:
        """Do work while no other run fills the kept arrays."""
        if self.graphs:
            return in_gpu_thread(work)
        with self._filled:
            return work()

    def _make(self, feeds: Arrays, answers: Arrays) -> _Kept:
        binding = self.session.io_binding()
        inputs = {name: self._empty_like(array) for name, array in feeds.items()}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, array in answers.items():
            binding.bind_ortvalue_output(name, self._empty_like(array))
        kept = _Kept(inputs, tuple(answers), binding, number=len(self._kept) + 1)
        if self.graphs:
            for number in (*[NOT_RECORDED] * RUNS_BEFORE_RECORDING, kept.number):
                options = ort.RunOptions()
                _number(options, number)
                _fill_and_run(self.session, kept, feeds, options)
        return kept

    def _empty_like(self, array: NDArray[Any]) -> ort.OrtValue:
        shape, dtype = array.shape, array.dtype.type
        return ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, self._device, 0)


def _fill_and_run(
    session: ort.InferenceSession, kept: _Kept, feeds: Arrays, options: ort.RunOptions
) -> Arrays:
    for name, value in kept.inputs.items():
        value.update_inplace(feeds[name])
    session.run_with_iobinding(kept.binding, options)
    # Not OrtValue.numpy(), which is no copy where the device is the CPU.
    return dict(zip(kept.outputs, kept.binding.copy_outputs_to_cpu(), strict=True))


def _number(options: ort.RunOptions, number: int) -> None:
    options.add_run_config_entry("gpu_graph_id", str(number))


def _key(feeds: Arrays, answers: Arrays) -> Key:
    return tuple((name, array.shape) for name, array in (*feeds.items(), *answers.items()))
