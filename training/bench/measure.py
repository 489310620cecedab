"""Time all files at one size and batch in turns, each in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contract.errors import LongskipError
from contract.session import Device

# A file whose process does not end within this after its input was closed is ended.
END_TIMEOUT_S = 30.0


class BenchFailed(LongskipError):
    """A file could not be opened or run by the bench."""


@dataclass(frozen=True)
class Measurement:
    """One file at one size and batch.

    Attributes:
        file: its name.
        precision: of its weights.
        provider: what it really ran on.
        sha256: of the file.
        side_px: height and width of the images.
        batch: images per run.
        turns: runs that were timed.
        median_ms: of one run.
        p95_ms: 95th percentile of the runs.
        images_per_s: batch / median.
        peak_memory_mb: of the process, in 2^20 bytes; on a GPU the host's memory only.
        speed_ratio: median over the turns of the first file's time / this file's, turn by turn, so
            that other load on the machine touches both.
    """

    file: str
    precision: str
    provider: str
    sha256: str
    side_px: int
    batch: int
    turns: int
    median_ms: float
    p95_ms: float
    images_per_s: float
    peak_memory_mb: float
    speed_ratio: float


def measure(
    files: Sequence[Path],
    *,
    side_px: int,
    batch: int,
    device: Device,
    threads: int | None,
    turns: int,
    tick: Callable[[], object] = lambda: None,
) -> list[Measurement]:
    """Measure ``files`` at one size and batch; ``labels`` alone are asked for.

    Args:
        files: the first is what speeds are compared with.
        side_px: height and width of the images.
        batch: images per run.
        device: as in ``Model.open``.
        threads: CPU threads; None takes all cores that may be used.
        turns: runs of each file that are timed, after one that is not.
        tick: called after each turn.

    Raises:
        BenchFailed: a file cannot be opened, or does not run at this size.
    """
    with ExitStack() as stack:
        processes = [_start(stack, file, side_px, batch, device, threads) for file in files]
        ready = [_read(process, file) for process, file in zip(processes, files, strict=True)]
        seconds = np.zeros((turns, len(files)))
        for turn in range(turns):
            for index, (process, file) in enumerate(zip(processes, files, strict=True)):
                seconds[turn, index] = _run_once(process, file)
            tick()
        memory = [_end(process, file) for process, file in zip(processes, files, strict=True)]
    return [
        Measurement(
            file=file.name,
            precision=facts["precision"],
            provider=facts["provider"],
            sha256=facts["sha256"],
            side_px=side_px,
            batch=batch,
            turns=turns,
            median_ms=1000 * float(np.median(taken)),
            p95_ms=1000 * float(np.percentile(taken, 95)),
            images_per_s=batch / float(np.median(taken)),
            peak_memory_mb=peak,
            speed_ratio=float(np.median(seconds[:, 0] / taken)),
        )
        for file, facts, taken, peak in zip(files, ready, seconds.T, memory, strict=True)
    ]


Process = subprocess.Popen[str]


def _start(
    stack: ExitStack, file: Path, side_px: int, batch: int, device: Device, threads: int | None
) -> Process:
    arguments = (file, side_px, batch, device, threads or 0)
    process = subprocess.Popen(
        [sys.executable, "-m", "training.bench.worker", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    stack.enter_context(process)
    stack.callback(process.kill)  # leaves nothing behind where the bench is stopped
    return process


def _run_once(process: Process, file: Path) -> float:
    assert process.stdin is not None
    try:
        process.stdin.write("run\n")
    except BrokenPipeError:
        raise _failure(process, file) from None
    return float(_read(process, file))


def _end(process: Process, file: Path) -> float:
    assert process.stdin is not None
    process.stdin.close()
    peak = float(_read(process, file)["peak_memory_mb"])
    process.wait(END_TIMEOUT_S)
    return peak


def _read(process: Process, file: Path) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise _failure(process, file)
    return json.loads(line)


def _failure(process: Process, file: Path) -> BenchFailed:
    assert process.stderr is not None
    process.wait(END_TIMEOUT_S)
    said = process.stderr.read().strip().splitlines()
    if process.returncode < 0:
        return BenchFailed(
            f"{file}: its process was ended by signal {-process.returncode}; if memory ran out, "
            "give smaller --sizes or --batches"
        )
    return BenchFailed(f"{file}: {said[-1] if said else 'its process ended without a word'}")
