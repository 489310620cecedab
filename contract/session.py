"""Open an onnxruntime session: the one place for options that change bits, speed or memory.

A GPU that was asked for and is not really used is an error here. onnxruntime itself falls back to
the CPU in silence: ``get_available_providers()`` goes on to name CUDA, only the session tells.
"""

import contextlib
import ctypes
import functools
import io
import logging
import os
import re
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort

from contract.errors import DeviceUnavailable, ModelBroken, ModelNotFound, OutOfMemory
from contract.gpu.placement import heavy_on, left_wholly
from contract.gpu.tensorrt import EnginePlan
from contract.gpu.use import in_gpu_thread

Device = Literal["auto", "cpu", "cuda", "tensorrt"]

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
TENSORRT_PROVIDER = "TensorrtExecutionProvider"

# Levels differ in their bits, so training's export check, evaluate and the service share this one.
GRAPH_OPTIMISATION = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
# Errors only: at the default level every overridable initialiser prints a warning.
LOG_SEVERITY_ERROR = 3

SHRINK_FROM_PIXELS = 1 << 20

CUDA_OPTIONS: dict[str, str] = {
    # By power of two, one large request would reserve up to twice its memory for good.
    "arena_extend_strategy": "kSameAsRequested",
    # EXHAUSTIVE searches anew for each image size, which costs seconds on mixed sizes.
    "cudnn_conv_algo_search": "HEURISTIC",
    "cudnn_conv_use_max_workspace": "1",
    # TF32 keeps 10 bits of mantissa: a model that says fp32 would not give fp32's answer.
    "use_tf32": "0",
}

GRAPH_OPTIONS: dict[str, str] = {
    "enable_cuda_graph": "1",
    # While a run is recorded no memory can be fetched, so what was fetched before must suffice.
    "arena_extend_strategy": "kNextPowerOfTwo",
}
# What onnxruntime says of a graph with nodes that neither CUDA nor a shape's arithmetic takes.
GRAPHS_REFUSED = "cannot use the graph capture feature"

# Of onnxruntime's arena, the C++ library, CUDA, cuDNN, cuBLAS and TensorRT, in this order.
_OUT_OF_MEMORY = re.compile(
    r"failed to allocate memory|smaller than requested bytes|bad_alloc|out.?of.?memory"
    r"|cudaErrorMemoryAllocation|STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)

# Such as "CUDA failure 35: CUDA driver version is insufficient … ; GPU=-1 ; hostname=… ; file=…".
_GPU_FAILURE = re.compile(r"CU(?:DA|DNN|BLAS) failure[^;]*")

_log = logging.getLogger(__name__)


class _NotUsable(Exception):
    """Why a GPU cannot be used, as the end of a sentence."""


def open_session(
    path: Path | str,
    *,
    device: Device = "auto",
    threads: int | None = None,
    engine: EnginePlan | None = None,
    cuda_graphs: bool = False,
) -> ort.InferenceSession:
    """Open a model file on a device and make sure that it is the device really used.

    Args:
        path: the ``.onnx`` file.
        device: ``auto`` is CUDA where it really works, else the CPU. The others are demands.
        threads: CPU threads per run; None takes the cores this process may use. The number does
            not change the answer's bits.
        engine: what TensorRT is given in the file's place.
        cuda_graphs: whether runs will be recorded; on CUDA only.

    Raises:
        ModelNotFound: there is no such file.
        ModelBroken: onnxruntime cannot read the file.
        OutOfMemory: there is no memory for it now.
        DeviceUnavailable: the device asked for is not there or not usable.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelNotFound(f"there is no model file {path}; give the path of a .onnx file")
    if device == "cpu" or (device == "auto" and why_no_cuda() is not None):
        return _open(path, CPU_PROVIDER, threads)
    try:
        wanted = TENSORRT_PROVIDER if device == "tensorrt" else CUDA_PROVIDER
        return _open_on_gpu(path, wanted, threads, engine, cuda_graphs)
    except _NotUsable as reason:
        if device == "auto":
            _log.warning("CUDA is installed, but %s: running on the CPU", reason)
            return _open(path, CPU_PROVIDER, threads)
        raise DeviceUnavailable(
            f"device {device!r} was asked for, but {reason}. Use device 'auto' or 'cpu', or repair "
            "the GPU set-up."
        ) from reason


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a run failed for want of memory.

    onnxruntime has no error of its own for it (microsoft/onnxruntime, issue 16307), only texts.
    """
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


def run_options(provider: str, *, pixels: int) -> ort.RunOptions:
    """Return options that hand memory back after a large run, also after one that failed.

    Otherwise the process keeps the memory of its largest request (1208 MB after a batch of
    8 x 512 x 512 against 101 MB). Small runs keep theirs: fetching it anew from the system costs
    a fifth of the time.

    Args:
        provider: what the session runs on.
        pixels: of all images of the batch together.
    """
    options = ort.RunOptions()
    if pixels >= SHRINK_FROM_PIXELS:
        arena = "cpu:0" if provider == CPU_PROVIDER else "gpu:0"
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arena)
    return options


def usable_cores() -> int:
    """Cores that this process may use: its affinity mask where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def why_no_cuda() -> str | None:
    """Return why CUDA cannot be used here, or None where a build and a GPU are there.

    It asks the driver, because trying onnxruntime's provider prints an error where there is none.
    """
    if CUDA_PROVIDER not in ort.get_available_providers():
        return "this onnxruntime was built without CUDA"
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver on this machine"
    count = ctypes.c_int(0)
    asked = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return None if asked and count.value > 0 else "the NVIDIA driver sees no GPU"


def _open_on_gpu(
    path: Path, provider: str, threads: int | None, engine: EnginePlan | None, cuda_graphs: bool
) -> ort.InferenceSession:
    reason = why_no_cuda()
    if reason is None and provider not in ort.get_available_providers():
        reason = f"this onnxruntime was built without {provider}"
    if reason is not None:
        raise _NotUsable(reason)
    if cuda_graphs:
        session = in_gpu_thread(functools.partial(_open, path, provider, threads, cuda_graphs=True))
    else:
        session = _open(path, provider, threads, engine)
    reason = _why_not_used(session, provider)
    if reason is not None:
        raise _NotUsable(reason)
    return session


def _why_not_used(session: ort.InferenceSession, wanted: str) -> str | None:
    """Return why a session does not run where it should, or None where it does."""
    used = session.get_providers()
    if used[0] != wanted:
        return f"onnxruntime fell back to {', '.join(used)}; its libraries are missing or differ"
    assigned = session.get_provider_graph_assignment_info()
    left = heavy_on(CPU_PROVIDER, assigned)
    if left:
        return f"onnxruntime left {_told(left)} of the graph's nodes on the CPU"
    if wanted == TENSORRT_PROVIDER:  # some may stay with CUDA, which is the GPU, too
        left = left_wholly(TENSORRT_PROVIDER, CUDA_PROVIDER, assigned)
    return f"TensorRT took none of the graph's {_told(left)}" if left else None


def _told(nodes: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(nodes.items()))


def _open(
    path: Path,
    provider: str,
    threads: int | None,
    engine: EnginePlan | None = None,
    *,
    cuda_graphs: bool = False,
) -> ort.InferenceSession:
    if provider != CPU_PROVIDER:
        _preload_gpu_libraries()
    options = _session_options(threads)
    if provider == CPU_PROVIDER:
        _share_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
        # A run would take its memory in one piece, more of it, and be no faster (ADR 0032).
        options.enable_mem_pattern = False
    else:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        return ort.InferenceSession(
            str(path) if engine is None else engine.model,
            sess_options=options,
            providers=_providers(provider, engine, cuda_graphs),
            # Otherwise a failure, also of a later run, is printed and the CPU taken in its place.
            enable_fallback=0,
        )
    except Exception as error:  # onnxruntime's classes share no root of their own
        if is_out_of_memory(error):
            raise OutOfMemory(f"there is no memory to open {path} now; try again later") from error
        if provider != CPU_PROVIDER:
            _open(path, CPU_PROVIDER, threads)  # raises where it is the file's fault
            if GRAPHS_REFUSED in str(error):
                raise DeviceUnavailable(
                    f"onnxruntime cannot record runs of {path} as CUDA graphs: {_said(error)}. "
                    "Turn CUDA graphs off"
                ) from error
            raise _NotUsable(f"onnxruntime cannot use {provider}: {_said(error)}") from error
        raise ModelBroken(
            f"{path} cannot be opened as an ONNX model: {error}. Was it copied whole? "
            "Export or fetch it again."
        ) from error


def _said(error: Exception) -> str:
    """Return what failed, without the machine's name and the lines of code around it."""
    text = " ".join(str(error).split())
    failure = _GPU_FAILURE.search(text)
    return text if failure is None else failure[0].strip()


def _session_options(threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = GRAPH_OPTIMISATION
    # Given explicitly, because onnxruntime's own choice pins threads and warns in containers.
    options.intra_op_num_threads = usable_cores() if threads is None else threads
    options.inter_op_num_threads = 1
    options.log_severity_level = LOG_SEVERITY_ERROR
    # Spinning threads double the CPU time and do not shorten the wall time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


@functools.cache
def _share_memory() -> None:
    """Let all sessions of this process take their working memory from one place.

    Otherwise each keeps that of its own largest run: two models, each opened for all cores and for
    one, held 918 MB after images of 900 x 900, sharing 540 MB; handed back, 575 and 149 MB.
    """
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    # 0 and -1 are onnxruntime's own defaults.
    arena = {"max_mem": 0, "arena_extend_strategy": 0}
    arena |= {"initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(arena))


def _providers(provider: str, engine: EnginePlan | None, cuda_graphs: bool) -> list[Any]:
    cuda = (CUDA_PROVIDER, CUDA_OPTIONS | (GRAPH_OPTIONS if cuda_graphs else {}))
    tensorrt = (TENSORRT_PROVIDER, {} if engine is None else dict(engine.options))
    chains: dict[str, list[Any]] = {
        CPU_PROVIDER: [CPU_PROVIDER],
        CUDA_PROVIDER: [cuda, CPU_PROVIDER],
        TENSORRT_PROVIDER: [tensorrt, cuda, CPU_PROVIDER],
    }
    return chains[provider]


def _preload_gpu_libraries() -> None:
    """Load the pip-installed CUDA libraries; what fails shows up as a missing provider."""
    if not hasattr(ort, "preload_dlls"):
        return
    with contextlib.redirect_stdout(io.StringIO()) as said, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ort.preload_dlls()
    if said.getvalue():
        _log.debug("onnxruntime.preload_dlls: %s", said.getvalue().strip())
