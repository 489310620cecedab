"""How Lightning's checkpoints reach the disk: whole, and with the one before kept."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from contract.errors import LongskipError
from training.fit.atomic import replace_file
from training.fit.run_directory import LAST, PREVIOUS, RunDirectory


class CheckpointUnwritable(LongskipError):
    """The disk did not take a checkpoint; the ones before are untouched."""


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside and renames; ``last.ckpt`` first hands its place to ``previous.ckpt``.

    Lightning's own goes through a temporary folder that may lie on another disk, where moving
    is copying, and does not wait for the disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write ``checkpoint`` to ``path``.

        Raises:
            CheckpointUnwritable: the disk is full or the folder cannot be written.
        """
        path = Path(path)
        # In memory first: torch's zip writer turns the disk's errors into its own.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        keep = path.with_name(PREVIOUS) if path.name == LAST else None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, lambda file: file.write(buffer.getbuffer()), keep=keep)
        except OSError as error:
            run = RunDirectory(path.parent.parent)
            kept = [name for name in (LAST, PREVIOUS) if (path.parent / name).is_file()]
            advice = (
                f"{kept[0]} from before is whole: make room, then go on by --resume {run.root}"
                if kept
                else "there is none from before, so nothing was kept"
            )
            raise CheckpointUnwritable(
                f"{path} cannot be written ({error.strerror}); {advice}"
            ) from error
