"""Models that run as on a GPU, all inputs fed and arrays kept, but in the CPU's memory."""

from dataclasses import replace

from contract.gpu.kept import KeptRuns
from contract.gpu.runs import GpuRuns
from contract.gpu.tensorrt import EngineShapes
from contract.model import Model
from contract.optional_inputs import require_inputs
from contract.session import open_session


def as_on_cuda(model: Model, *, graphs: bool = False) -> Model:
    """Return a model that runs as on CUDA."""
    runs = KeptRuns(model.session, device="cpu", graphs=graphs)
    on_gpu = GpuRuns(runs, model.spec, takes_statistics=model.takes_statistics)
    return replace(model, on_gpu=on_gpu)


def as_on_tensorrt(model: Model, shapes: EngineShapes) -> Model:
    """Return a model of which no run is past a box, on the file that TensorRT is given."""
    content, _ = require_inputs(model.path.read_bytes(), source=str(model.path))
    path = model.path.with_name("required.onnx")
    path.write_bytes(content)
    kept = KeptRuns(open_session(path, device="cpu", threads=1), device="cpu")
    on_gpu = GpuRuns(kept, model.spec, takes_statistics=model.takes_statistics, engine=shapes)
    return replace(model, session=kept.session, on_gpu=on_gpu)
