"""Which provider the heavy nodes went to, by what onnxruntime itself recorded."""

from collections import Counter
from pathlib import Path

import onnx
import onnxruntime as ort

from contract.gpu.placement import HEAVY, heavy_on, left_wholly
from contract.session import CPU_PROVIDER, CUDA_PROVIDER, TENSORRT_PROVIDER, _why_not_used


def open_recording(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return ort.InferenceSession(str(path), sess_options=options, providers=[CPU_PROVIDER])


def test_every_convolution_of_a_shipped_model_is_found(repository_root: Path) -> None:
    path = repository_root / "models" / "nuclei" / "1" / "model.onnx"
    in_the_file = Counter(
        node.op_type for node in onnx.load(path).graph.node if node.op_type in HEAVY
    )
    assert in_the_file["Conv"] > 10
    session = open_recording(path)
    assigned = session.get_provider_graph_assignment_info()
    assert heavy_on(CPU_PROVIDER, assigned) == in_the_file
    assert not heavy_on(CUDA_PROVIDER, assigned)
    assert left_wholly(TENSORRT_PROVIDER, CPU_PROVIDER, assigned) == in_the_file
    assert not left_wholly(CPU_PROVIDER, CUDA_PROVIDER, assigned)
    # Had this been asked of a GPU, the service would say so and not start.
    assert f"left {in_the_file['Conv']} Conv" in str(_why_not_used(session, CPU_PROVIDER))
    assert "fell back to CPUExecutionProvider" in str(_why_not_used(session, CUDA_PROVIDER))


def test_a_model_without_weights_has_nothing_heavy(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "light",
        [value("x", kind, ["n"])],
        [value("y", kind, ["n"])],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "m.onnx")
    assert _why_not_used(open_recording(tmp_path / "m.onnx"), CPU_PROVIDER) is None
