"""One process of the bench: one file, one size, one batch.

It is started by ``training/bench/measure.py`` for each of them anew, so that its peak memory is
this file's alone. Lines in and out: it prints a JSON line when it is ready, a number of seconds
for each line ``run``, and a JSON line with its peak memory when its input ends.
"""

import json
import platform
import sys
import time
from pathlib import Path

import numpy as np

from contract.gpu.use import GpuUse
from contract.model import Model


def main(arguments: list[str]) -> None:
    """Take file, side in pixels, batch, device and threads (0: all cores)."""
    path, device = arguments[0], arguments[3]
    side, batch, threads = (int(arguments[place]) for place in (1, 2, 4))
    gpu = GpuUse(warm_shapes_hw=((side, side),), max_batch=batch)
    model = Model.open(path, device=device, threads=threads or None, prove=False, gpu=gpu)  # type: ignore[arg-type]
    generator = np.random.default_rng(0)
    shape = (batch, model.spec.channels, side, side)
    image = generator.integers(0, 256, shape).astype(np.float32)
    model.run(image)  # the first run sets memory aside and chooses kernels
    _say({"precision": model.precision, "provider": model.provider, "sha256": model.sha256})
    for _ in sys.stdin:
        began = time.perf_counter()
        model.run(image)
        print(time.perf_counter() - began, flush=True)
    _say({"peak_memory_mb": peak_memory_mb()})


def peak_memory_mb() -> float:
    """Return the most memory that this process ever held, in MB of 2^20 bytes.

    The system's own count of it starts at the parent's size on Linux, so the process's is read.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    try:
        import resource
    except ImportError:  # Windows tells in neither way
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if platform.system() == "Darwin" else 1024)


def _say(facts: dict[str, str | float]) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
