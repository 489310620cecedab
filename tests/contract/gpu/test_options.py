"""What onnxruntime's real GPU providers say to our options, where there is no GPU to use them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from contract.gpu.tensorrt import plan_engine
from contract.gpu.use import GpuUse
from contract.metadata import read_metadata
from contract.session import (
    CUDA_OPTIONS,
    CUDA_PROVIDER,
    GRAPH_OPTIONS,
    TENSORRT_PROVIDER,
    why_no_cuda,
)
from contract.spec import ModelSpec
from tests.contract.gpu import libraries as gpu_libraries

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_no_cuda() is None, reason="this machine has a usable GPU"),
]

# Asks with the options given as JSON, and prints what onnxruntime says.
ASK = """
import json, sys
import onnxruntime as ort
ort.preload_dlls()
options = ort.SessionOptions()
options.log_severity_level = 4
for provider, given in json.loads(sys.argv[2]):
    try:
        ort.InferenceSession(
            sys.argv[1], sess_options=options, providers=[(provider, given)], enable_fallback=0
        )
        print(json.dumps("taken"))
    except Exception as error:
        print(json.dumps(str(error)))
"""
OPEN = """
import logging, sys
from contract.errors import LongskipError
from contract.session import open_session
logging.basicConfig(stream=sys.stdout, format="%(message)s")
try:
    print(open_session(sys.argv[1], device=sys.argv[2], threads=1).get_providers())
except LongskipError as error:
    print(type(error).__name__, error)
"""
OPEN_MODEL = """
import sys
from pathlib import Path
from contract.errors import LongskipError
from contract.gpu.use import GpuUse
from contract.model import Model
use = GpuUse(((40, 50),), 4, Path(sys.argv[3]), cuda_graphs=True)
try:
    Model.open(sys.argv[1], device=sys.argv[2], threads=1, gpu=use)
except LongskipError as error:
    print(type(error).__name__, error)
"""
NO_GPU = "CUDA failure"


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpu_libraries.build(tmp_path_factory.mktemp("libraries"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, build_threshold_model: Any) -> Path:
    path: Path = build_threshold_model(tmp_path_factory.mktemp("model") / "model.onnx")
    return path


def ask(libraries: Path, file: Path, *asked: tuple[str, dict[str, str]]) -> list[str]:
    finished = gpu_libraries.run_python(libraries, ASK, str(file), json.dumps(asked))
    assert finished.returncode == 0, finished.stderr
    return [json.loads(line) for line in finished.stdout.splitlines()]


def test_cuda_takes_our_options_and_no_others(libraries: Path, file: Path) -> None:
    wrong = {name: "no-such-value" for name in CUDA_OPTIONS | GRAPH_OPTIONS}
    answers = ask(
        libraries,
        file,
        (CUDA_PROVIDER, CUDA_OPTIONS),
        (CUDA_PROVIDER, CUDA_OPTIONS | {"no_such_option": "1"}),
        (CUDA_PROVIDER, CUDA_OPTIONS | GRAPH_OPTIONS),
        *((CUDA_PROVIDER, {name: value}) for name, value in wrong.items()),
    )
    assert NO_GPU in answers[0]
    assert 'Unknown provider option: "no_such_option"' in answers[1]
    assert NO_GPU in answers[2]
    for name, answer in zip(wrong, answers[3:], strict=True):
        assert f'Failed to parse provider option "{name}"' in answer


def test_tensorrt_takes_our_options_and_no_others(
    libraries: Path, file: Path, tmp_path: Path
) -> None:
    spec = ModelSpec.from_metadata(read_metadata(file), source=str(file))
    options = dict(plan_engine(file, spec, GpuUse(((40, 50),), 4, tmp_path)).options)
    switches = [name for name in options if name.endswith("_enable")]
    answers = ask(
        libraries,
        file,
        (TENSORRT_PROVIDER, options),
        (TENSORRT_PROVIDER, options | {"no_such_option": "1"}),
        # As NVIDIA's C++ examples have it, and CUDA's provider takes it.
        *((TENSORRT_PROVIDER, {name: "1"}) for name in switches),
    )
    assert NO_GPU in answers[0]
    assert "Invalid TensorRT EP option: no_such_option" in answers[1]
    assert len(switches) == 2
    for name, answer in zip(switches, answers[2:], strict=True):
        assert f"'{name}' should be 'True' or 'False'" in answer


def test_engines_are_kept_apart_by_tensorrt_s_own_version(libraries: Path, tmp_path: Path) -> None:
    program = "from contract.gpu.tensorrt import _tensorrt_version; print(_tensorrt_version())"
    assert gpu_libraries.run_python(libraries, program).stdout == "101301\n"
    assert gpu_libraries.run_python(tmp_path, program).stdout == "0\n"


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_provider_that_fails_is_told_in_its_own_words(
    libraries: Path, file: Path, device: str
) -> None:
    """onnxruntime itself would print this, take the CPU, and do so again when a run fails."""
    finished = gpu_libraries.run_python(libraries, OPEN, str(file), device)
    assert finished.stdout.startswith(
        f"DeviceUnavailable device '{device}' was asked for, but onnxruntime cannot use "
    )
    assert NO_GPU in finished.stdout
    assert "hostname" not in finished.stdout
    assert len(finished.stdout.splitlines()) == 1


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_model_comes_as_far_as_the_gpu_with_all_that_can_be_set(
    libraries: Path, file: Path, tmp_path: Path, device: str
) -> None:
    """Graphs are for CUDA, the folder for TensorRT; onnxruntime takes what each is opened with."""
    finished = gpu_libraries.run_python(libraries, OPEN_MODEL, str(file), device, str(tmp_path))
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("DeviceUnavailable")
    assert NO_GPU in finished.stdout
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert bool(list(tmp_path.glob(f"onnxruntime-*-tensorrt-101301/{sha256}"))) is (
        device == "tensorrt"
    )


def test_auto_says_why_it_takes_the_cpu(libraries: Path, file: Path) -> None:
    finished = gpu_libraries.run_python(libraries, OPEN, str(file), "auto")
    warning, providers = finished.stdout.splitlines()
    assert warning.startswith("CUDA is installed, but onnxruntime cannot use CUDA")
    assert providers == "['CPUExecutionProvider']"


def test_a_broken_file_is_the_file_s_fault_on_a_gpu_too(libraries: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"PK\x03\x04 not a model")
    finished = gpu_libraries.run_python(libraries, OPEN, str(path), "cuda")
    assert finished.stdout.startswith("ModelBroken")
