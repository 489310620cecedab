"""What a process keeps of its largest runs: one working memory for all models, not one for each.

And what it hands back though nothing is asked of it.
"""

import asyncio
import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from service.engine import memory

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
