"""What a process keeps of its largest runs: one working memory for all models, not one for each.

And what it hands back though nothing is asked of it.
"""

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from contract.model import Model
from service.engine import engine, memory
from service.metrics import Metrics
from service.repository.repository import Repository, ServedModel
from service.settings import Settings

PROBE = """
import sys
from pathlib import Path
import numpy as np
from contract.model import Model

def resident_mb():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024

models = [Model.open(path, device="cpu", threads=n, prove=False)
          for path in sys.argv[1:] for n in (1, 2)]
image_nchw = np.zeros((1, 3, 400, 400), np.float32)
kept_mb = []
for model in models:
    before_mb = resident_mb()
    model.run(image_nchw)
    kept_mb.append(resident_mb() - before_mb)
print(*kept_mb)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_sessions_share_their_working_memory(repository_root: Path) -> None:
    names = ("nuclei", "nuclei-noskip")
    paths = [repository_root / "models" / name / "1" / "model.onnx" for name in names]
    finished = subprocess.run(
        [sys.executable, "-c", PROBE, *map(str, paths)],
        cwd=repository_root,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    first_mb, *others_mb = map(float, finished.stdout.split())
    assert first_mb > 25  # otherwise the image is too small to show anything
    assert sum(others_mb) < first_mb / 2, finished.stdout


class Told:
    """A real model that tells when it is asked to hand memory back."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.handed_back = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def hand_memory_back(self) -> None:
        self._model.hand_memory_back()
        self.handed_back.set()


def test_what_a_model_held_that_is_gone_goes_back_by_order_of_another(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own order comes before its sessions are gone, and nobody may run for long."""
    monkeypatch.setattr(engine, "TRIM_AFTER_S", 0.05)
    path = models / "grey" / "1" / "model.onnx"
    goes, stays = (Told(Model.open(path, device="cpu", threads=1)) for _ in range(2))
    served = [ServedModel("goes", 1, goes), ServedModel("stays", 1, stays)]  # type: ignore[arg-type]

    async def scene() -> None:
        settings = Settings(models=models, reload=False)
        async with engine.Engine(Repository(served), settings, Metrics()) as running:
            await running.retire(served[0])
            assert goes.handed_back.is_set()
            assert not stays.handed_back.is_set()
            assert await asyncio.to_thread(stays.handed_back.wait, 30)

    asyncio.run(scene())


class Circle:
    """Holds itself."""

    def __init__(self) -> None:
        self.itself = self


def test_at_rest_it_lets_go_of_circles_and_then_of_the_heaps_free_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "EVERY_S", 0.01)

    async def scene() -> None:
        circle = weakref.ref(Circle())
        trimmed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def trim() -> None:
            if circle() is None:
                loop.call_soon_threadsafe(trimmed.set)

        monkeypatch.setattr(memory, "trim_heap", trim)
        handing_back = asyncio.create_task(memory.hand_back_regularly())
        await asyncio.wait_for(trimmed.wait(), 30)
        handing_back.cancel()

    gc.disable()  # so that nobody else does it
    try:
        asyncio.run(scene())
    finally:
        gc.enable()
