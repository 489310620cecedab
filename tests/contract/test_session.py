import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
import pytest

from contract.errors import DeviceUnavailable, ModelBroken, ModelNotFound
from contract.session import CPU_PROVIDER, open_session, run_options, usable_cores, why_no_cuda

no_gpu = pytest.mark.skipif(why_no_cuda() is None, reason="this machine has a usable GPU")


@pytest.fixture
def file(tmp_path, build_threshold_model):
    return build_threshold_model(tmp_path / "model.onnx")


def test_cpu_is_the_only_provider(file):
    assert open_session(file, device="cpu").get_providers() == [CPU_PROVIDER]


def test_a_run_does_not_take_its_memory_in_one_piece(file):
    assert not open_session(file, device="cpu").get_session_options().enable_mem_pattern


@no_gpu
def test_auto_takes_the_cpu_without_a_gpu(file):
    assert open_session(file, device="auto").get_providers() == [CPU_PROVIDER]


@no_gpu
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_asked_for_and_absent_is_refused(file, device):
    with pytest.raises(
        DeviceUnavailable, match=rf"'{device}' was asked for, but .*'auto' or 'cpu'"
    ):
        open_session(file, device=device)


@no_gpu
def test_onnxruntime_falls_back_in_silence(file):
    """The reason for DeviceUnavailable: were this to fail, our check could go."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("onnxruntime was built without CUDA")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(
        str(file), sess_options=options, providers=["CUDAExecutionProvider"]
    )
    assert session.get_providers() == [CPU_PROVIDER]


@no_gpu
def test_nothing_is_printed(file, repository_root):
    program = (
        "import sys; from contract.session import open_session\n"
        "from contract.errors import DeviceUnavailable\n"
        "open_session(sys.argv[1])\n"
        "try: open_session(sys.argv[1], device='cuda')\n"
        "except DeviceUnavailable: sys.exit(7)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, str(file)],
        cwd=repository_root,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (7, "", "")


def test_options_in_force(file):
    options = open_session(file, device="cpu", threads=3).get_session_options()
    assert options.intra_op_num_threads == 3
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    default = open_session(file, device="cpu").get_session_options()
    assert default.intra_op_num_threads == usable_cores() >= 1


@pytest.mark.parametrize(("provider", "arena"), [(CPU_PROVIDER, "cpu:0"), ("CUDA…", "gpu:0")])
def test_a_large_run_hands_memory_back_where_the_model_runs(provider, arena):
    options = run_options(provider, pixels=1 << 20)
    assert options.get_run_config_entry("memory.enable_memory_arena_shrinkage") == arena


def test_a_small_run_keeps_its_memory():
    options = run_options(CPU_PROVIDER, pixels=(1 << 20) - 1)
    with pytest.raises(RuntimeError, match="shrinkage"):
        options.get_run_config_entry("memory.enable_memory_arena_shrinkage")


def test_no_file(tmp_path):
    with pytest.raises(ModelNotFound, match=r"absent\.onnx"):
        open_session(tmp_path / "absent.onnx")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a model", b"\x00" * 100])
def test_not_an_onnx_file(tmp_path: Path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelBroken, match=r"model\.onnx cannot be opened"):
        open_session(path, device="cpu")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file(file, share):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelBroken, match="Was it copied whole"):
        open_session(file, device="cpu")
