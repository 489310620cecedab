"""Give a foreign ONNX segmentation model a spec, after checking it by running it."""

import functools
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from contract.answers import check_answers
from contract.embed import embed_spec
from contract.errors import LongskipError, ModelBroken, SpecInvalid
from contract.golden import OUTPUTS, make_golden
from contract.model import Model
from contract.repository import MODEL_FILE, next_version
from contract.spec import ModelSpec

if TYPE_CHECKING:
    import onnx


def adopt(
    file: Path,
    fields: Mapping[str, Any],
    *,
    to: Path,
    intensity_range: tuple[float, float] = (0.0, 255.0),
    golden_size_hw: tuple[int, int] = (64, 64),
    seed: int = 0,
) -> Path:
    """Check a foreign model, make its golden sample and put it into a repository.

    Args:
        file: an ONNX file whose graph already keeps the contract (input ``image``, outputs
            ``labels`` and ``probabilities``); weights beside it are taken into the one file.
        fields: of the ``ModelSpec``; ``normalising`` (none), ``net`` and ``code_version`` may be
            left out, and there is no ``golden``.
        to: the repository's root.
        intensity_range: lowest and highest raw intensity of the images that the model takes.
        golden_size_hw: size of the golden sample's picture.
        seed: of the pictures.

    Returns:
        The new file, ``<to>/<name>/<next version>/model.onnx``.

    Raises:
        ModelBroken: the graph or its answers are off the contract.
        SpecInvalid: the fields do not make a spec.
        LongskipError: the package ``onnx`` is missing.
    """
    if not intensity_range[0] < intensity_range[1]:
        raise SpecInvalid(f"intensities run from low to high, got {list(intensity_range)}")
    model = _load(file)
    spec = _spec(fields, model)
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / MODEL_FILE
        _write(model, spec, staged)
        opened = Model.open(staged, device="cpu", prove=False)
        check_answers(opened, intensity_range=intensity_range, seed=seed)
        golden = make_golden(
            functools.partial(opened.run, outputs=OUTPUTS),
            seed,
            (spec.channels, *golden_size_hw),
            intensity_range,
        )
        _write(model, spec.model_copy(update={"golden": golden}), staged)
        Model.open(staged, device="cpu", prove=True)
        return _place(staged, to, spec.name)


def _load(file: Path) -> "onnx.ModelProto":
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise LongskipError(
            "adopt needs the package onnx: pip install 'longskip[training]'"
        ) from error
    if not file.is_file():
        raise ModelBroken(f"there is no file {file}")
    try:
        return onnx.load(file)
    except Exception as error:  # protobuf's, onnx's or the operating system's
        raise ModelBroken(f"{file} cannot be read as an ONNX model: {error}") from error


def _spec(fields: Mapping[str, Any], model: "onnx.ModelProto") -> ModelSpec:
    if fields.get("golden") is not None:
        raise SpecInvalid("leave 'golden' out of the spec; adopt makes it by running the model")
    channels = fields.get("channels")
    width = channels if isinstance(channels, int) else 1
    weights = sum(_size(initialiser.dims) for initialiser in model.graph.initializer)
    defaults = {
        "normalising": {"kind": "fixed", "mean": [0.0] * width, "std": [1.0] * width},
        "net": {"architecture": "foreign", "parameters": weights},
        "code_version": f"adopted ({model.producer_name or 'unknown producer'})",
    }
    try:
        return ModelSpec.model_validate({**defaults, **fields})
    except ValidationError as error:
        raise SpecInvalid(f"the spec does not validate: {error}") from error


def _size(dims: Any) -> int:
    return functools.reduce(lambda product, n: product * int(n), dims, 1)


def _write(model: "onnx.ModelProto", spec: ModelSpec, path: Path) -> None:
    embed_spec(model, spec)
    try:
        path.write_bytes(model.SerializeToString(deterministic=True))
    except ValueError as error:
        raise ModelBroken(
            f"the model does not fit into one file (2 GB at most): {error}"
        ) from error


def _place(staged: Path, to: Path, name: str) -> Path:
    folder = to / name / str(next_version(to, name))
    folder.mkdir(parents=True)  # fails where another one took this version meanwhile
    # Renamed at the end, so that a service that watches the folder never meets half a file.
    part = folder / f"{MODEL_FILE}.part"
    shutil.copyfile(staged, part)
    os.replace(part, folder / MODEL_FILE)
    return folder / MODEL_FILE
