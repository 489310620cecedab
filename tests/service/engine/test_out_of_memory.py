"""Too little memory: real runs that fail for want of it, in a process that may not have more."""

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from contract.errors import OutOfMemory
from contract.halt import Halt
from contract.model import Model
from contract.session import is_out_of_memory
from contract.spec import Tiles
from service.engine.budget import PixelBudget
from service.engine.queue import Decoded, Job
from service.engine.run import run_batch

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits by /proc")

# A process of its own, because the limit holds for all that runs in it.
PROBE = """
import json, resource, sys
from pathlib import Path
sys.path.insert(0, str(Path("tests/service/engine").resolve()))
import test_out_of_memory
print(json.dumps(getattr(test_out_of_memory, sys.argv[1])(Path(sys.argv[2]))))
"""
PAGE_BYTES = resource.getpagesize()
FREE_BYTES = 24 << 20


class Sizes:
    """A real model that notes the sizes of the runs that went well, and of those that did not."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.ran: list[int] = []
        self.failed: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run(self, image_nchw: Any, **options: Any) -> Any:
        return self._noting(len(image_nchw), lambda: self._model.run(image_nchw, **options))

    def segment(self, image_chw: Any, **options: Any) -> Any:
        return self._noting(1, lambda: self._model.segment(image_chw, **options))

    def _noting(self, images: int, run: Callable[[], Any]) -> Any:
        try:
            answer = run()
        except OutOfMemory:
            self.failed.append(images)
            raise
        self.ran.append(images)
        return answer


def virtual_bytes(pid: int | str = "self") -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * PAGE_BYTES


def resident_mb(pid: int | str = "self") -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / 2**20


def outcomes_of(model: Any, images_chw: Sequence[Any]) -> list[Any]:
    async def run() -> list[Any]:
        loop = asyncio.get_running_loop()
        lease = PixelBudget(10**9).lease()
        jobs = [Job(Decoded(i), False, lease, loop.create_future()) for i in images_chw]
        return run_batch(model, jobs, Halt())

    return asyncio.run(run())


def picture(side: int, seed: int) -> Any:
    return np.random.default_rng(seed).random((1, side, side), np.float32) * 255


def in_a_process(repository_root: Path, work: str, path: Path) -> Any:
    finished = subprocess.run(
        [sys.executable, "-c", PROBE, work, str(path)],
        cwd=repository_root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def probe(folder: Path) -> dict[str, Any]:
    """Run two models with next to no memory left, and say what came."""
    small, large = (Model.open(folder / f"{n}.onnx", device="cpu", threads=1) for n in "sl")
    batch = [picture(300, seed) for seed in range(8)]
    whole = picture(1000, 9)
    expected = [small.segment(image).labels for image in batch]
    in_tiles = large.segment(whole, in_tiles=True).labels
    outcomes_of(small, batch[:1])  # the event loop's own memory
    leave_free(FREE_BYTES)
    sizes, tiled = Sizes(small), Sizes(large)
    answers = outcomes_of(sizes, batch)
    (alone,) = outcomes_of(tiled, [whole])
    (refused,) = outcomes_of(small, [whole])
    return {
        "each has its own answer": [
            bool(np.array_equal(a.labels, e)) for a, e in zip(answers, expected, strict=True)
        ],
        "ran": sizes.ran,
        "failed": sizes.failed,
        "tiled": bool(alone.tiled and np.array_equal(alone.labels, in_tiles)),
        "whole failed": tiled.failed,
        "refused": type(refused).__name__,
    }


def leave_free(free_bytes: int) -> None:
    limit = virtual_bytes() + free_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def kept_mb(file: Path) -> float:
    """Return by how much a run grows the process that fails after it has taken 150 MB."""
    model = Model.open(file, device="cpu", threads=1)
    image = np.zeros((1, model.spec.channels, 900, 900), np.float32)
    model.run(image[:, :, :64, :64])
    before_mb = resident_mb()
    leave_free(200 << 20)
    with pytest.raises(OutOfMemory):
        model.run(image)
    return resident_mb() - before_mb


def test_halves_then_tiles_then_an_error_and_the_memory_comes_back(
    tmp_path: Path, repository_root: Path, build_threshold_model: Callable[..., Path]
) -> None:
    build_threshold_model(tmp_path / "s.onnx")
    build_threshold_model(tmp_path / "l.onnx", tiles=Tiles(patch=(100, 100)))
    came = in_a_process(repository_root, "probe", tmp_path)
    assert came["each has its own answer"] == [True] * 8
    assert came["failed"][0] == 8
    assert set(came["failed"]) <= {8, 4, 2}
    assert sum(came["ran"]) == 8
    assert came["tiled"]
    assert came["whole failed"] == [1]
    assert came["refused"] == "OutOfMemory"


def test_a_run_that_fails_hands_back_what_it_took(repository_root: Path) -> None:
    file = repository_root / "models" / "nuclei" / "1" / "model.onnx"
    # 160 MB where the memory is not handed back.
    assert in_a_process(repository_root, "kept_mb", file) < 60


def test_a_service_without_memory_says_so_and_goes_on_when_it_has_some_again(
    service: Any, client: httpx.Client, segment: Any, make_pixels: Any, encode_png: Any
) -> None:
    small, large = encode_png(make_pixels(40, 40)), encode_png(make_pixels(1000, 1000))
    before = segment("grey", small)
    unlimited = resource.prlimit(service.process.pid, resource.RLIMIT_AS)
    limit = virtual_bytes(service.process.pid) + FREE_BYTES
    resource.prlimit(service.process.pid, resource.RLIMIT_AS, (limit, unlimited[1]))
    try:
        refused = segment("grey", large)
        assert refused.status_code == 503, refused.text
        assert refused.json()["type"] == "urn:longskip:problem:out-of-memory"
        assert int(refused.headers["retry-after"]) >= 1
        assert segment("grey", small).content == before.content
        assert client.get("/v2/health/ready").status_code == 200
    finally:
        resource.prlimit(service.process.pid, resource.RLIMIT_AS, unlimited)
    assert segment("grey", large).status_code == 200


@pytest.mark.parametrize(
    "said",
    [
        "Non-zero status code returned while running Conv node. Name:'conv' Status Message: "
        "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::"
        "AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate memory for "
        "requested buffer of size 126877696",
        "Available memory of 1024 is smaller than requested bytes of 4096",
        "std::bad_alloc",
        "CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p, size);",
        "CUDA_ERROR_OUT_OF_MEMORY",
        "CUDNN failure 4000: CUDNN_STATUS_ALLOC_FAILED ; GPU=0",
        "CUBLAS_STATUS_ALLOC_FAILED",
    ],
)
def test_a_lack_of_memory_is_known_by_its_text(said: str) -> None:
    assert is_out_of_memory(RuntimeError(said))


def test_other_failures_are_no_lack_of_memory() -> None:
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("Got invalid dimensions for input: image"))
