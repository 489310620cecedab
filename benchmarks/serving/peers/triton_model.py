"""The model as Triton's Python backend runs it; ``with_triton.py`` puts it into a repository."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from segment import open_session, segment

MODEL = "BENCH_MODEL"


class TritonPythonModel:
    """Takes ``image`` as PNG bytes ``[1]`` and answers ``mask`` likewise."""

    def initialize(self, args: dict[str, Any]) -> None:
        """Open the model file."""
        self.session = open_session(Path(os.environ[MODEL]))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Segment one image after the other."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        (png,) = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
        mask = np.array([segment(self.session, png)], object)
        return pb_utils.InferenceResponse([pb_utils.Tensor("mask", mask)])
