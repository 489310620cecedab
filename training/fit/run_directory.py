"""The folder of one training run, and what is written into it.

config.yaml        every setting, resolved; `fit --config` reads it again
split.json         which images train, validate and test
environment.json   versions, hardware, seed, command line
logs/              TensorBoard events and metrics.csv
checkpoints/       best.ckpt (validation Dice), last.ckpt, and while it trains previous.ckpt
validation.csv     Dice and IoU per case and class of the last validation pass
alarms.csv         layers that died or exploded, where any did
"""

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from contract.errors import LongskipError

PACKAGES = (
    "longskip", "torch", "lightning", "segmentation-models-pytorch", "albumentations",
    "numpy", "opencv-python-headless", "onnxruntime-gpu", "onnxruntime", "onnx",
)  # fmt: skip


LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"


class RunDirectoryError(LongskipError):
    """A run directory is not there, not complete, or would be overwritten."""


@dataclass(frozen=True)
class RunDirectory:
    """Paths inside the folder of one run."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved settings."""
        return self.root / "config.yaml"

    @property
    def split(self) -> Path:
        """The split that was used."""
        return self.root / "split.json"

    @property
    def environment(self) -> Path:
        """Versions, hardware, seed and command line."""
        return self.root / "environment.json"

    @property
    def logs(self) -> Path:
        """TensorBoard events and metrics.csv."""
        return self.root / "logs"

    @property
    def checkpoints(self) -> Path:
        """best.ckpt and last.ckpt."""
        return self.root / "checkpoints"

    @property
    def validation(self) -> Path:
        """Dice and IoU per case and class of the last validation pass."""
        return self.root / "validation.csv"

    @property
    def alarms(self) -> Path:
        """Layers whose updates died or exploded; there only where any did."""
        return self.root / "alarms.csv"

    def checkpoint(self, which: str) -> Path:
        """Return ``best.ckpt`` or ``last.ckpt``; without a best one (no validation), the last.

        ``previous.ckpt`` stands in for a last one where the process was killed between the two
        renames that put a new one there.

        Raises:
            RunDirectoryError: the run has no checkpoint.
        """
        for name in (f"{which}.ckpt", LAST, PREVIOUS):
            path = self.checkpoints / name
            if path.is_file():
                return path
        raise RunDirectoryError(
            f"{self.root} holds no checkpoints/{which}.ckpt; give the folder of a run that `fit` "
            "has written a checkpoint of"
        )


def create_run_directory(out: Path | None, *, name: str) -> RunDirectory:
    """Make ``out``, or the next free ``runs/<name>-<number>``.

    Raises:
        RunDirectoryError: ``out`` exists and is not empty, so that nothing is overwritten.
    """
    run = RunDirectory(vacant_folder(out, name=name))
    for folder in (run.logs, run.checkpoints):
        folder.mkdir(exist_ok=True)
    return run


def vacant_folder(out: Path | None, *, name: str) -> Path:
    """Make the empty folder ``out``, or the next free ``runs/<name>-<number>``.

    Raises:
        RunDirectoryError: ``out`` exists and is not empty, so that nothing is overwritten.
    """
    if out is None:
        number = 1
        while (Path("runs") / f"{name}-{number}").exists():
            number += 1
        out = Path("runs") / f"{name}-{number}"
    if out.exists() and any(out.iterdir()):
        raise RunDirectoryError(
            f"{out} exists and is not empty; choose another --out, or go on with it by "
            f"--resume {out}"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(
            f"{out} cannot be made ({error.strerror}); choose another --out"
        ) from error
    return out


def write_environment(run: RunDirectory, *, seed: int, extra: Mapping[str, Any]) -> None:
    """Write what is needed to repeat the run, beside its config."""
    facts = {
        "command": ["python", "-m", "training", *sys.argv[1:]],
        "seed": seed,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: v for name in PACKAGES if (v := _version(name)) is not None},
        "cpu_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        **extra,
    }
    run.environment.write_text(json.dumps(facts, indent=2) + "\n")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except OSError:
        return None
    return answer.stdout.strip() or None
